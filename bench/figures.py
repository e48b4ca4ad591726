"""What is made of the measurements: medians, spreads, ratios, and verdicts against floors and targets. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self, TypeVar

T = TypeVar("T")

TWINS_MAY_DIFFER = 0.15
"""By how much two identical servers may differ before a run says nothing about servers that are not."""


class Shape(NamedTuple):
    """How calls come in: over so many connections, with so many in flight on each."""

    connections: int
    streams: int

    def __str__(self) -> str:
        connections = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return connections if self.streams == 1 else f"{connections}, {self.streams} in flight"


class Measure(NamedTuple):
    """What one target did with one kind of call in one round."""

    round: int
    target: str
    work: str
    shape: Shape
    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    server_us: float
    """Processor time of the server's processes for each request."""
    database_us: float
    """Processor time of PostgreSQL for each request."""


class Series(NamedTuple):
    """The measures of one target, one kind of call and one shape over all rounds."""

    target: str
    work: str
    shape: Shape


class Spread(NamedTuple):
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        if self.low == self.high:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


class Verdict(StrEnum):
    MET_TARGET = "met target"
    MET_FLOOR = "met floor"
    MISSED = "missed"
    NOT_MEASURED = "not measured"
    NO_CONCLUSION = "no conclusion"


@dataclass(frozen=True)
class Bound:
    """How far one target is to stand above another, or how little below it."""

    title: str
    over: tuple[str, str]
    """Target and work above the line of the ratio."""
    under: tuple[str, str]
    """Target and work below it."""
    floor: float
    target: float
    metric: str = "rps"
    lower_is_better: bool = False
    shapes: tuple[Shape, ...] = ()


def percentile(values: Sequence[float], percent: float) -> float:
    """Answer the smallest value that so many percent of the sorted values do not exceed."""
    if not values:
        raise ValueError("no values")
    rank = -(-len(values) * percent // 100)
    return values[max(0, min(len(values), int(rank)) - 1)]


def rotated(items: Sequence[T], round: int, rounds: int) -> list[T]:
    """Answer the items in the order of a round: each round starts elsewhere, so that none is always first or last."""
    start = round * max(1, len(items) // rounds) % len(items) if items else 0
    return [*items[start:], *items[:start]]


def by_series(measures: Iterable[Measure]) -> dict[Series, list[Measure]]:
    """Answer the measures of each series, in order of the rounds."""
    found: dict[Series, list[Measure]] = {}
    for measure in sorted(measures, key=lambda measure: measure.round):
        found.setdefault(Series(measure.target, measure.work, measure.shape), []).append(measure)
    return found


def ratio(over: Sequence[Measure], under: Sequence[Measure], metric: str) -> Spread | None:
    """Answer the ratio of two series: of each round that has both, then over the rounds; None when there is none."""
    divisors = {measure.round: float(getattr(measure, metric)) for measure in under}
    ratios = [
        float(getattr(measure, metric)) / divisors[measure.round] for measure in over if divisors.get(measure.round)
    ]
    return Spread.of(ratios) if ratios else None


def ratio_of(bound: Bound, shape: Shape, series: Mapping[Series, Sequence[Measure]]) -> Spread | None:
    """Answer the ratio that a bound is about, None when either side was not measured."""
    over, under = (series.get(Series(*side, shape), ()) for side in (bound.over, bound.under))
    return ratio(over, under, bound.metric)


def verdict(
    value: float | None, *, floor: float, target: float, lower_is_better: bool = False, is_conclusive: bool = True
) -> Verdict:
    """Judge a value; what lies on a bound meets it."""
    if value is None:
        return Verdict.NOT_MEASURED
    if not is_conclusive:
        return Verdict.NO_CONCLUSION
    sign = -1 if lower_is_better else 1
    if sign * value >= sign * target:
        return Verdict.MET_TARGET
    return Verdict.MET_FLOOR if sign * value >= sign * floor else Verdict.MISSED


def twins_agree(ratio: Spread | None) -> bool:
    """Whether the identical twin of the echo is near enough to it, in the median, for the run to mean something."""
    return ratio is not None and abs(ratio.median - 1) <= TWINS_MAY_DIFFER
