"""Usage to messages. Pure."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from omniflo.templates.v1.usage_service_pb2 import RecordUsageResponse, UsageRow
from service.operations.usage_sums import Sum
from service.operations.usages import Recorded
from service.servicers import encode


def recorded(of: Recorded) -> RecordUsageResponse:
    return RecordUsageResponse(recorded_count=of.recorded, duplicate_count=of.duplicates)


def usage_row(row: Sum, *, has_time: bool) -> UsageRow:
    p50, p95, p99 = row.percentiles()
    return UsageRow(
        template_id=row.template_id,
        template_revision=row.template_revision,
        template_type=row.template_type,
        model=row.model,
        user_id=row.user_id,
        organization_id=row.organization_id,
        time=encode.timestamp(row.time) if has_time else None,
        count=row.count,
        success_count=row.success_count,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        output_tokens=row.output_tokens,
        reasoning_tokens=row.reasoning_tokens,
        token_count=row.token_count,
        duration_p50=_duration(p50),
        duration_p95=_duration(p95),
        duration_p99=_duration(p99),
        duration_mean=_duration(row.mean()),
        cost=encode.money(row.cost),
        priced_count=row.priced_count,
    )


def _duration(of: timedelta) -> Duration:
    return Duration(seconds=of.days * 86400 + of.seconds, nanos=of.microseconds * 1000)
