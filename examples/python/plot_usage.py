"""Draw what was used in the last days: usages and costs by day and model, and how long the most used templates take.

    python plot_usage.py PICTURE.png [DAYS]

Needs the wheel of the registry, and matplotlib. DAYS is 30 unless given. The registry is at TEMPLATES_ADDRESS
(127.0.0.1:50051 unless set). TEMPLATES_KEY is an API key: what it shows is the owner's, and everybody's to an
administrator.
"""

import os
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from matplotlib.figure import Figure

from omniflo.templates.v1.usage_pb2 import UsageGranularity, UsageGroup
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest, UsageRow
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceStub

TEMPLATES = 8
"""How many are drawn."""
DAY = UsageGranularity.USAGE_GRANULARITY_DAY


def query(usage: UsageServiceStub, request: QueryUsageRequest) -> Iterator[UsageRow]:
    """Ask for all pages."""
    key = os.environ.get("TEMPLATES_KEY")
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    while True:
        response = usage.QueryUsage(request, timeout=10, metadata=metadata)
        yield from response.rows
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def draw(by_model: list[UsageRow], by_template: list[UsageRow], days: list[date], path: str) -> None:
    figure: Any = Figure(figsize=(8, 9), layout="tight")
    counts, costs, durations = figure.subplots(3, 1, height_ratios=[3, 2, 3])
    _bars(counts, "usages a day", days, {_of(row): row.count for row in by_model})
    _bars(costs, "cost a day, USD", days, {_of(row): row.cost.units + row.cost.nanos / 1e9 for row in by_model})
    counts.legend(fontsize=8)
    most = sorted(by_template, key=lambda row: row.count)[-TEMPLATES:]
    names = [f"{row.template_id or 'none'} ({row.count:,})" for row in most]
    durations.plot([row.duration_p50.ToMilliseconds() / 1000 for row in most], names, "o", label="p50")
    durations.plot([row.duration_p95.ToMilliseconds() / 1000 for row in most], names, "o", label="p95")
    _label(durations, "seconds that the most used templates take")
    durations.legend(fontsize=8)
    figure.savefig(path, dpi=80)


def _of(row: UsageRow) -> tuple[str, date]:
    return row.model, row.time.ToDatetime().date()


def _bars(axis: Any, title: str, days: list[date], values: dict[tuple[str, date], float]) -> None:
    bottom = [0.0] * len(days)
    for model in sorted({model for model, _ in values}):
        heights = [values.get((model, day), 0.0) for day in days]
        axis.bar([f"{day:%d %b}" for day in days], heights, bottom=bottom, label=model or "unknown")
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axis.set_xticks(range(0, len(days), max(1, len(days) // 10)))
    _label(axis, title)


def _label(axis: Any, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(axis="both", alpha=0.3)
    axis.set_axisbelow(True)


def main(path: str, number: str = "30") -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [(today - timedelta(days=before)).date() for before in reversed(range(int(number)))]
    start = Timestamp()
    start.FromDatetime(today - timedelta(days=int(number) - 1))
    service_config = files("omniflo.templates.v1").joinpath("service_config.json").read_text()
    address = os.environ.get("TEMPLATES_ADDRESS", "127.0.0.1:50051")
    with grpc.insecure_channel(address, [("grpc.service_config", service_config)]) as channel:
        usage = UsageServiceStub(channel)
        models = QueryUsageRequest(
            start_time=start, granularity=DAY, group_by=[UsageGroup.USAGE_GROUP_MODEL], page_size=1000
        )
        templates = QueryUsageRequest(start_time=start, group_by=[UsageGroup.USAGE_GROUP_TEMPLATE], page_size=1000)
        try:
            by_model, by_template = list(query(usage, models)), list(query(usage, templates))
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    draw(by_model, by_template, days, path)
    print(f"{sum(row.count for row in by_model)} usages of {len(by_template)} templates: {path}")


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3} or not "".join(sys.argv[2:] or "1").isdecimal():
        sys.exit(__doc__)
    main(*sys.argv[1:])
