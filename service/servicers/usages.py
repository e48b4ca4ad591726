"""UsageService: what templates and models are used for."""

from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from grpc import ServicerContext

from omniflo.templates.v1 import usage_pb2
from omniflo.templates.v1.usage_pb2 import UsageGranularity, UsageGroup
from omniflo.templates.v1.usage_service_pb2 import (
    QueryUsageRequest,
    QueryUsageResponse,
    RecordUsageRequest,
    RecordUsageResponse,
)
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceServicer
from service import actor
from service.operations import usage_sums, usages
from service.operations.usages import Usage
from service.servicers import decode, encode, encode_usages, pages
from service.servicers.writes import write

_BY: dict[int, Literal["hour", "day"]] = {
    UsageGranularity.USAGE_GRANULARITY_HOUR: "hour",
    UsageGranularity.USAGE_GRANULARITY_DAY: "day",
}
_GROUPS: dict[int, set[str]] = {
    UsageGroup.USAGE_GROUP_TEMPLATE: {"template_id"},
    UsageGroup.USAGE_GROUP_REVISION: {"template_id", "template_revision"},
    UsageGroup.USAGE_GROUP_TEMPLATE_TYPE: {"template_type"},
    UsageGroup.USAGE_GROUP_MODEL: {"model"},
    UsageGroup.USAGE_GROUP_USER: {"user_id"},
    UsageGroup.USAGE_GROUP_ORGANIZATION: {"organization_id"},
}


class UsageServicer(UsageServiceServicer):
    def RecordUsage(self, request: RecordUsageRequest, context: ServicerContext) -> RecordUsageResponse:
        recorded = [_usage(index, usage) for index, usage in enumerate(request.usages)]
        return write(
            request, RecordUsageResponse, encode_usages.recorded, partial(usages.record, actor.current(), recorded)
        )

    def QueryUsage(self, request: QueryUsageRequest, context: ServicerContext) -> QueryUsageResponse:
        group_by = {key for group in request.group_by for key in _GROUPS[group]}
        by = _BY.get(request.granularity)
        kinds = [int if key == "template_revision" else str for key in usage_sums.KEYS if key in group_by]
        sums = usage_sums.query(
            actor.current(),
            start=decode.moment(request.start_time),
            end=decode.time(request, "end_time"),
            by=by,
            group_by=group_by,
            after=pages.after(request, datetime, *kinds),
            size=pages.size(request),
            **{name: getattr(request, name) for name in usage_sums.KEYS},
        )
        return QueryUsageResponse(
            rows=[encode_usages.usage_row(row, has_time=by is not None) for row in sums.page.rows],
            next_page_token=pages.token(request, sums.page),
            start_time=encode.timestamp(sums.start),
            end_time=encode.timestamp(sums.end),
        )


def _usage(index: int, usage: usage_pb2.Usage) -> Usage:
    return Usage(
        event_id=usage.event_id,
        duration=timedelta(seconds=usage.duration.seconds, microseconds=usage.duration.nanos // 1000),
        template_id=usage.template_id,
        template_revision=usage.template_revision,
        user_id=usage.user_id,
        organization_id=usage.organization_id,
        model=usage.model,
        time=decode.time(usage, "time", f"usages[{index}].time"),
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        token_count=usage.token_count,
        success=usage.success if usage.HasField("success") else not usage.error_code,
        error_code=usage.error_code,
    )
