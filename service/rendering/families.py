"""Which model takes what, as families.toml has it."""

import fnmatch
import functools
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

_DATE = re.compile(r"-\d{4}(-\d\d-\d\d)?\Z")
"""That of a snapshot. The oldest have a day and no year."""


class Sampling(Enum):
    """When a model takes a temperature, or a top_p."""

    ALWAYS = "always"
    NEVER = "never"
    ONLY_ONE = "only 1"
    WITHOUT_REASONING = "without reasoning"


@dataclass(frozen=True)
class Family:
    """What the models of a row take."""

    names: tuple[str, ...]
    guess: bool
    """The names are patterns: nobody said so of each model that fits."""
    efforts: tuple[str, ...]
    default_effort: str | None
    temperature: Sampling
    top_p: Sampling
    verbosity: tuple[str, ...]
    parallel_tool_calls: bool
    """Whether it takes the setting, whatever it says."""
    refused_tools: frozenset[str]
    refused_with: Mapping[str, frozenset[str]]
    """By effort: the hosted tools that are refused with it."""
    source: str
    disagreement: str


class _Table(NamedTuple):
    rules: int
    families: Sequence[Family]
    by_name: Mapping[str, Family]
    by_pattern: Sequence[tuple[re.Pattern[str], Family]]
    refused_of_fine_tuned: frozenset[str]


@functools.lru_cache(1024)
def family_of(model: str) -> Family | None:
    """Return what is known of a model by its name, or None; one that was fine-tuned is of its base's family."""
    table = _table()
    for name in (model, model.rpartition("/")[2]):
        base = name.removeprefix("ft:").partition(":")[0]
        undated = _DATE.sub("", base)
        family = table.by_name.get(base) or table.by_name.get(undated)
        if family is None and "/" not in base:
            family = next((family for pattern, family in table.by_pattern if pattern.fullmatch(undated)), None)
        if family is not None:
            return family
    return None


def misfits(
    model: str,
    *,
    effort: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    verbosity: str | None = None,
    parallel_tool_calls: bool | None = None,
    tools: Collection[str] = (),
) -> dict[str, str]:
    """Return why a model does not take what of these settings, by their names in the API and the types of tools.

    The effort is sent beside the tools that are taken, and the temperature and the top_p beside the effort if that is.
    """
    why = {type_: reason for type_ in tools if (reason := why_no_tool(model, type_))}
    if effort is not None and (reason := why_no_effort(model, effort, set(tools) - why.keys())):
        why["reasoning_effort"], effort = reason, None
    if temperature is not None and (reason := why_no_temperature(model, temperature, effort)):
        why["temperature"] = reason
    if top_p is not None and (reason := why_no_top_p(model, top_p, effort)):
        why["top_p"] = reason
    if verbosity is not None and (reason := why_no_verbosity(model, verbosity)):
        why["verbosity"] = reason
    if parallel_tool_calls is not None and (reason := why_no_parallel_tool_calls(model, set(tools) - why.keys())):
        why["parallel_tool_calls"] = reason
    return why


def why_no_effort(model: str, effort: str, tools: Collection[str] = ()) -> str | None:
    """Return why a model does not take a reasoning effort beside tools of those types, naming what fits, or None."""
    family = family_of(model)
    if family is None:
        return None
    if effort not in family.efforts:
        return f"{model} takes {_listed(family.efforts) + ' only' if family.efforts else 'no reasoning_effort'}"
    refused = family.refused_with.get(effort)
    if refused is None or refused.isdisjoint(tools):
        return None
    named = sorted(refused.intersection(tools))
    fits = [other for other in family.efforts if family.refused_with.get(other, frozenset()).isdisjoint(named)]
    return f"{model} takes {_listed(fits)} only with {' and '.join(named)}"


def why_no_temperature(model: str, temperature: float, effort: str | None) -> str | None:
    """Return why a model does not take a temperature beside the effort that is sent, naming what fits, or None."""
    family = family_of(model)
    if family is None:
        return None
    is_reasoning = (effort or family.default_effort) != "none"
    return _why_not_sampled(model, family.temperature, "temperature", temperature, is_reasoning=is_reasoning)


def why_no_top_p(model: str, top_p: float, effort: str | None) -> str | None:
    """Return why a model does not take a top_p beside the effort that is sent, naming what fits, or None."""
    family = family_of(model)
    if family is None:
        return None
    is_reasoning = (effort or family.default_effort) != "none"
    return _why_not_sampled(model, family.top_p, "top_p", top_p, is_reasoning=is_reasoning)


def why_no_verbosity(model: str, verbosity: str) -> str | None:
    """Return why a model does not take a verbosity, naming what fits, or None."""
    family = family_of(model)
    return f"{model} takes {_listed(family.verbosity)} only" if family and verbosity not in family.verbosity else None


def why_no_parallel_tool_calls(model: str, tools: Collection[str]) -> str | None:
    """Return why a model does not take parallel_tool_calls beside tools of those types, or None."""
    family = family_of(model)
    if family is not None and not family.parallel_tool_calls:
        return f"{model} takes no parallel_tool_calls"
    return None if tools else "there are no tools"


def why_no_tool(model: str, type: str) -> str | None:
    """Return why a model does not take a hosted tool, or None."""
    family = family_of(model)
    return f"{model} does not take {type}" if family and type in family.refused_tools else None


def is_fine_tuned(model: str) -> bool:
    """Return whether a model was made of another one."""
    return model.rpartition("/")[2].startswith("ft:")


def rules() -> int:
    """Return the number of the rules by which templates are rendered."""
    return _table().rules


def all_families() -> Sequence[Family]:
    """Return the rows of the table, from top to bottom."""
    return _table().families


def refused_of_fine_tuned() -> frozenset[str]:
    """Return the keywords of a schema that OpenAI refuses with `strict` from models that were fine-tuned."""
    return _table().refused_of_fine_tuned


@functools.cache
def _table() -> _Table:
    document = tomllib.loads(Path(__file__).with_name("families.toml").read_text("utf-8"))
    families = tuple(map(_family, document["family"]))
    return _Table(
        document["rules"],
        families,
        {name: family for family in families if not family.guess for name in family.names},
        [(re.compile(fnmatch.translate(name)), family) for family in families if family.guess for name in family.names],
        frozenset(document["fine_tuned"]["refused_keywords"]),
    )


def _family(row: Mapping[str, Any]) -> Family:
    return Family(
        names=tuple(row["names"]),
        guess=row.get("guess", False),
        efforts=tuple(row["efforts"]),
        default_effort=row.get("default_effort"),
        temperature=Sampling(row["temperature"]),
        top_p=Sampling(row.get("top_p", row["temperature"])),
        verbosity=tuple(row.get("verbosity", ["medium"])),
        parallel_tool_calls=row.get("parallel_tool_calls", True),
        refused_tools=frozenset(row.get("refused_tools", [])),
        refused_with={effort: frozenset(tools) for effort, tools in row.get("refused_with", {}).items()},
        source=row["source"],
        disagreement=row.get("disagreement", ""),
    )


def _why_not_sampled(model: str, taken: Sampling, name: str, value: float, *, is_reasoning: bool) -> str | None:
    match taken:
        case Sampling.NEVER:
            return f"{model} takes no {name}"
        case Sampling.ONLY_ONE if value != 1:
            return f"{model} takes {name} 1 only"
        case Sampling.WITHOUT_REASONING if is_reasoning:
            return f"{model} takes a {name} with reasoning_effort NONE only"
        case _:
            return None


def _listed(efforts: Sequence[str]) -> str:
    """Return efforts as the API spells them: `LOW, MEDIUM and HIGH`."""
    names = [effort.upper() for effort in efforts]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
