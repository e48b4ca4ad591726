"""Draw what was used in the last days: usages and costs by model, and what the most used templates take.

    python plot_usage.py PICTURE.png [DAYS]

Needs the wheel of the registry, and matplotlib. DAYS is 30 unless given; with 1, today is drawn by the hour. The
registry is at TEMPLATES_ADDRESS (127.0.0.1:50051 unless set). TEMPLATES_KEY is an API key: its owner's usage is drawn,
or everybody's if the owner is an administrator.
"""

import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import cycle
from typing import Any

import grpc
from matplotlib.figure import Figure

from omniflo.templates.v1.template_service_pb2 import GetTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from omniflo.templates.v1.usage_pb2 import UsageGranularity, UsageGroup
from omniflo.templates.v1.usage_service_pb2 import QueryUsageRequest, UsageRow
from omniflo.templates.v1.usage_service_pb2_grpc import UsageServiceStub

TEMPLATES = 8
"""How many are drawn."""
FORMS = {"HOUR": "%H:%M", "DAY": "%d %b %y"}
COLORS = ("#3b6fb6", "#e08a3c", "#4f9d69", "#8b6bb1", "#c8553d", "#5aa7b5", "#b0892f", "#7f7f7f")

Sums = Counter[tuple[str, str]]
"""Numbers by a place on an axis and a model."""


class Registry:
    def __init__(self, channel: grpc.Channel) -> None:
        self._usage, self._templates = UsageServiceStub(channel), TemplateServiceStub(channel)
        key = os.environ.get("TEMPLATES_KEY")
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    def usage(self, start: datetime, by: str, *groups: str) -> list[UsageRow]:
        """Ask for all pages."""
        request = QueryUsageRequest(
            granularity=UsageGranularity.Value(f"USAGE_GRANULARITY_{by}"),
            group_by=[UsageGroup.Value(f"USAGE_GROUP_{group}") for group in groups],
            page_size=1000,
        )
        request.start_time.FromDatetime(start)
        rows: list[UsageRow] = []
        while True:
            response = self._usage.QueryUsage(request, timeout=10, metadata=self._metadata)
            rows += response.rows
            if not response.next_page_token:
                return rows
            request.page_token = response.next_page_token

    def title(self, id: str) -> str:
        """Return what a template is called, or its id if it is gone: its usage is not."""
        try:
            return self._templates.GetTemplate(GetTemplateRequest(id=id), timeout=10, metadata=self._metadata).title
        except grpc.RpcError:
            return id or "none"


def draw(registry: Registry, start: datetime, times: list[str], by: str, path: str) -> int:
    """Draw what was used since then, and return how many usages that is."""
    counts, costs, of_templates = Sums(), Sums(), Sums()
    form = FORMS[by]
    for row in registry.usage(start, by, "MODEL"):
        place = f"{row.time.ToDatetime():{form}}", row.model
        counts[place] += row.count
        costs[place] += row.cost.units + row.cost.nanos / 1e9
    # Times before the first use are left out, where enough is left.
    first = min((times.index(time) for time, _ in counts), default=0)
    times = times[max(0, min(first, len(times) - 6)) :]
    # The most used one comes last, and so above the others.
    most = sorted(registry.usage(start, "NONE", "TEMPLATE"), key=lambda row: row.count)[-TEMPLATES:]
    names = {row.template_id: f"{registry.title(row.template_id)[:28]} ({row.count:,})" for row in most}
    for row in registry.usage(start, "NONE", "TEMPLATE", "MODEL"):
        of_templates[names.get(row.template_id, ""), row.model] += row.count
    colors = dict(zip(sorted({model for _, model in counts}), cycle(COLORS)))

    figure: Any = Figure(figsize=(10, 7), layout="constrained")
    ((left, right), (below, beside)) = figure.subplots(2, 2)
    _bars(left.bar, "bottom", counts, times, colors)
    _bars(right.bar, "bottom", costs, times, colors)
    _bars(below.barh, "left", of_templates, list(names.values()), colors)
    p50, p95 = (
        [getattr(row, name).ToMicroseconds() / 1e6 for row in most] for name in ("duration_p50", "duration_p95")
    )
    beside.hlines(range(len(most)), p50, p95, color="#bbbbbb", linewidth=3, zorder=1)
    for seconds, label, color in ((p50, "half of them within", "#444444"), (p95, "95 % within", "#d1495b")):
        beside.scatter(seconds, range(len(most)), color=color, label=label, zorder=2)
    beside.set(yticks=range(len(most)), yticklabels=[], ylim=below.get_ylim(), xlim=(0, None))
    for axis, title in (
        (left, f"usages by {by.lower()} (UTC) and model"),
        (right, f"cost by {by.lower()} and model, USD"),
        (below, "usages of the most used templates, by model"),
        (beside, "seconds that these take"),
    ):
        axis.set_title(title, loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.grid(axis="y" if axis in {left, right} else "x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in (left, right):
        axis.set_xticks(range(0, len(times), 1 + len(times) // 9))
        axis.locator_params(axis="y", integer=axis is left)
    left.legend(fontsize=8, frameon=False)
    beside.legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(path, dpi=80)
    return sum(counts.values())


def _bars(bar: Any, base: str, sums: Sums, places: list[str], colors: dict[str, str]) -> None:
    """Draw the sums of each place, one model after the other."""
    ends = [0.0] * len(places)
    for model, color in colors.items():
        sizes = [sums[place, model] for place in places]
        bar(places, sizes, 0.7, **{base: ends}, color=color, label=model or "unknown")
        ends = [end + size for end, size in zip(ends, sizes, strict=True)]


def main(path: str, days: str = "30") -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=int(days) - 1)
    by, step = ("HOUR", timedelta(hours=1)) if start == today else ("DAY", timedelta(days=1))
    times = [f"{start + step * after:{FORMS[by]}}" for after in range((datetime.now(UTC) - start) // step + 1)]
    service_config = files("omniflo.templates.v1").joinpath("service_config.json").read_text()
    address = os.environ.get("TEMPLATES_ADDRESS", "127.0.0.1:50051")
    with grpc.insecure_channel(address, [("grpc.service_config", service_config)]) as channel:
        try:
            count = draw(Registry(channel), start, times, by, path)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    print(f"{count} usages: {path}")


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3} or not "".join(sys.argv[2:] or "1").isdecimal():
        sys.exit(__doc__)
    main(*sys.argv[1:])
