"""What a run leaves behind: the raw figures, a table, and a picture."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.compare import CACHED_TEMPLATES, Result
from bench.figures import (
    TWINS_MAY_DIFFER,
    Bound,
    Measure,
    Series,
    Shape,
    Spread,
    Verdict,
    by_series,
    ratio,
    ratio_of,
    twins_agree,
    verdict,
)
from bench.targets import BOUNDS, CACHED, ECHO, EIGHT, MANY, MEMORY_FLOOR_MB, MEMORY_TARGET_MB, ONE, TWIN
from bench.works import GET

_METHOD = """{rounds} of {seconds:g} s for each figure, interleaved and rotated in one run. A figure is the median of
the rounds, with the lowest and the highest.
"""


def write(result: Result, folder: Path) -> list[Path]:
    """Write everything into the folder and answer the files; the picture is left out where matplotlib is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    raw, table, picture = (folder / f"compare.{suffix}" for suffix in ("json", "md", "png"))
    raw.write_text(json.dumps(_raw(result), indent=1) + "\n")
    has_picture = find_spec("matplotlib") is not None
    table.write_text(_text(result, picture.name if has_picture else None))
    if not has_picture:
        # One of an earlier run would show other figures.
        picture.unlink(missing_ok=True)
        return [raw, table]
    _draw(result, picture)
    return [raw, table, picture]


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Answer a table of Markdown."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def judged(result: Result) -> list[tuple[Bound, Shape, Spread | None, Verdict]]:
    """Answer every bound with its ratio and its verdict, for each shape that it is about."""
    series = by_series(result.measures)
    found = []
    for bound in BOUNDS:
        for shape in bound.shapes or (EIGHT, ONE):
            spread = ratio_of(bound, shape, series)
            judgement = verdict(
                spread and spread.median,
                floor=bound.floor,
                target=bound.target,
                lower_is_better=bound.lower_is_better,
                is_conclusive=_is_conclusive(result),
            )
            found.append((bound, shape, spread, judgement))
    return found


def _twins(result: Result) -> dict[Shape, Spread | None]:
    series = by_series(result.measures)
    return {
        shape: ratio(series.get(Series(TWIN, GET, shape), ()), series.get(Series(ECHO, GET, shape), ()), "rps")
        for shape in (EIGHT, ONE)
    }


def _is_conclusive(result: Result) -> bool:
    """Whether the run is long and quiet enough to judge by: one unquiet shape makes the whole run unquiet."""
    return not result.options.is_quick and all(map(twins_agree, _twins(result).values()))


def _raw(result: Result) -> dict[str, Any]:
    return {
        "about": result.about,
        "options": result.options._asdict(),
        "is_conclusive": _is_conclusive(result),
        "absent": result.absent,
        "answer_octets": result.answer_sizes,
        "measures": [{**measure._asdict(), "shape": measure.shape._asdict()} for measure in result.measures],
        "memories": {name: [memory._asdict() for memory in memories] for name, memories in result.memories.items()},
        "memory_growth_mb": result.growth_mb,
        "verdicts": [
            {
                "title": bound.title,
                "shape": shape._asdict(),
                "ratio": spread and spread._asdict(),
                "floor": bound.floor,
                "target": bound.target,
                "verdict": judgement,
            }
            for bound, shape, spread, judgement in judged(result)
        ],
    }


def _text(result: Result, picture: str | None) -> str:
    options = result.options
    parts = [
        "# The service beside an echo and the seed's stack\n",
        _METHOD.format(
            rounds="1 round" if options.rounds == 1 else f"{options.rounds} rounds", seconds=options.seconds
        ),
        "".join(f"- {name}: {value}\n" for name, value in result.about.items()),
        _conclusion(result),
        f"![requests a second]({picture})\n" if picture else "There is no picture: matplotlib is absent.\n",
        "## Floors and targets\n",
        _verdicts(result),
    ]
    for shape in (EIGHT, ONE, MANY):
        parts += [f"## {shape}\n", _figures(result, shape)]
    parts += ["## Memory\n", _memory(result), "## Absent\n", _absent(result)]
    return "\n".join(parts)


def _conclusion(result: Result) -> str:
    twins = "; ".join(
        f"{spread.text(2)} with {shape}" if spread else f"not measured with {shape}"
        for shape, spread in _twins(result).items()
    )
    text = f"An identical twin of the echo had this share of the echo's requests a second: {twins}."
    if result.options.is_quick:
        return f"{text} **This is a smoke run: nothing follows from its figures.**\n"
    if not _is_conclusive(result):
        return (
            f"{text} **That is more than {TWINS_MAY_DIFFER:.0%} apart, so nothing follows from this run:"
            " repeat it on a quieter machine.**\n"
        )
    return f"{text} They may be {TWINS_MAY_DIFFER:.0%} apart.\n"


def _verdicts(result: Result) -> str:
    body = [
        [
            bound.title,
            str(shape),
            spread.text(2) if spread else "",
            f"{bound.floor:g}",
            f"{bound.target:g}",
            f"{judgement}{' (lower is better)' if bound.lower_is_better else ''}",
        ]
        for bound, shape, spread, judgement in judged(result)
    ]
    growth = result.growth_mb.get(CACHED)
    judgement = verdict(
        growth,
        floor=MEMORY_FLOOR_MB,
        target=MEMORY_TARGET_MB,
        lower_is_better=True,
        # It does not depend on how busy the machine is.
        is_conclusive=not result.options.is_quick,
    )
    body.append(
        [
            f"memory of a worker with {CACHED_TEMPLATES:,} templates cached, minus one that served one call",
            "one call at a time",
            "" if growth is None else f"{growth:+.1f} MB",
            f"+{MEMORY_FLOOR_MB:g} MB",
            f"+{MEMORY_TARGET_MB:g} MB",
            f"{judgement} (lower is better)",
        ]
    )
    return rows(["comparison", "load", "ratio", "floor", "target", "verdict"], body)


def _figures(result: Result, shape: Shape) -> str:
    series = by_series(result.measures)
    echo = series.get(Series(ECHO, GET, shape), [])
    body = [
        [
            f"{name}: {work}",
            f"{result.answer_sizes[name][work]:,}",
            *(_spread(measures, metric, digits) for metric, digits in _METRICS),
            spread.text(2) if (spread := ratio(measures, echo, "rps")) else "",
        ]
        for (name, work, of), measures in sorted(series.items(), key=lambda item: item[0].work)
        if of == shape
    ]
    if not body:
        return "Not measured: all that is measured under this load is absent.\n"
    head = [
        "target: call",
        "answer, octets",
        "requests a second",
        "p50, ms",
        "p99, ms",
        "server CPU a request, µs",
        "PostgreSQL CPU a request, µs",
        "requests / echo's",
    ]
    return rows(head, body)


_METRICS = (("rps", 0), ("p50_ms", 2), ("p99_ms", 2), ("server_us", 0), ("database_us", 0))


def _spread(measures: list[Measure], metric: str, digits: int) -> str:
    return Spread.of(getattr(measure, metric) for measure in measures).text(digits)


def _memory(result: Result) -> str:
    body = []
    for name, memories in result.memories.items():
        if name == "PostgreSQL":
            total = [sum(memory.rss_mb for memory in memories), sum(memory.pss_mb for memory in memories)]
            body.append([name, f"all {len(memories)}, for all targets", *(f"{value:.1f}" for value in total)])
            continue
        body += [[name, memory.process, f"{memory.rss_mb:.1f}", f"{memory.pss_mb:.1f}"] for memory in memories]
    growth = "".join(
        f"- {name}: a worker that had answered {CACHED_TEMPLATES:,} templates had {megabytes:+.1f} MB of RSS against"
        " its first answer.\n"
        for name, megabytes in result.growth_mb.items()
    )
    head = "After the last round. Of PSS, what processes share counts in equal parts with each.\n"
    return f"{head}\n{rows(['target', 'process', 'RSS, MB', 'PSS, MB'], body)}\n{growth}"


def _absent(result: Result) -> str:
    return "".join(f"- {name}: {reason}\n" for name, reason in result.absent.items()) or "Nothing.\n"


def _draw(result: Result, path: Path) -> None:
    # matplotlib is optional, and slow to import.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    series = by_series(result.measures)
    shapes = [shape for shape in (EIGHT, ONE, MANY) if any(of == shape for _, _, of in series)]
    counts = [sum(of == shape for _, _, of in series) for shape in shapes]
    figure, axes = plt.subplots(
        len(shapes), 1, figsize=(10, 0.34 * sum(counts) + 1.2 * len(shapes)), height_ratios=counts, squeeze=False
    )
    for axis, shape in zip(axes[:, 0], shapes, strict=True):
        found = sorted(
            ((name, work, measures) for (name, work, of), measures in series.items() if of == shape),
            key=lambda row: row[1],
        )
        # Bars are drawn from below.
        found.reverse()
        spreads = [Spread.of(measure.rps for measure in measures) for _, _, measures in found]
        axis.barh(
            [f"{work}: {name}" for name, work, _ in found],
            [spread.median for spread in spreads],
            xerr=[
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ],
            color=[_color(name) for name, _, _ in found],
            capsize=3,
        )
        axis.set_title(f"requests a second, {shape}", loc="left", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.margins(y=0.01)
    figure.suptitle(
        "median of the rounds, with the lowest and the highest"
        + ("" if _is_conclusive(result) else " — nothing follows from this run"),
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _color(name: str) -> str:
    if name.startswith("service"):
        return "#2a6f97"
    return "#9aa5b1" if name.startswith("echo") else "#c9803a"
