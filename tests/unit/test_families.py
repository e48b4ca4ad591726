"""Which model takes what: the table, and what is sent of a template for each of its rows."""

import itertools
import json
import re
import typing
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai.types
import openai.types.shared
import pytest

from service.operations import seed
from service.rendering import families, render
from service.rendering.families import Family, Sampling, family_of

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
CHAT_MODELS: tuple[str, ...] = typing.get_args(openai.types.ChatModel)
SNAPSHOTS = (
    "gpt-5-pro-2025-10-06",
    "gpt-5-search-api-2025-10-14",
    "gpt-5.4-2026-03-05",
    "gpt-5.4-pro-2026-03-05",
    "gpt-5.5-pro-2026-04-23",
    "o1-pro-2025-03-19",
    "o3-pro-2025-06-10",
)

TAKEN: dict[tuple[str, ...], str] = {
    # What callers were told by OpenAI, model by model.
    ("gpt-5-2025-08-07", "gpt-5-mini", "gpt-5-nano-2025-08-07"): "minimal low medium high",
    ("gpt-5-chat-latest", "gpt-5-search-api-2025-10-14"): "",
    ("gpt-5-codex", "gpt-5.1-codex", "gpt-5.1-codex-mini", "codex-mini-latest"): "low medium high",
    ("gpt-5-pro", "gpt-5-pro-2025-10-06"): "high",
    ("gpt-5.1", "gpt-5.1-2025-11-13"): "none low medium high",
    ("gpt-5.1-chat-latest", "gpt-5.2-chat-latest", "gpt-5.3-chat-latest"): "medium",
    ("gpt-5.1-codex-max", "gpt-5.2-codex"): "low medium high xhigh",
    ("gpt-5.2-2025-12-11", "gpt-5.3-codex", "gpt-5.4-mini-2026-03-17"): "none low medium high xhigh",
    ("gpt-5.2-pro-2025-12-11", "gpt-5.4-pro", "gpt-5.5-pro-2026-04-23"): "medium high xhigh",
    ("gpt-5.5", "gpt-5.5-2026-04-23"): "none low medium high xhigh",
    ("gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna"): "none low medium high xhigh max",
    ("gpt-6-sol", "gpt-6-luna", "gpt-6.1-terra"): "none low medium high xhigh max",
    ("gpt-6-astra", "gpt-6.2-astra", "gpt-6.1-sol", "gpt-6.2-sol"): "low medium high xhigh max",
    ("o1-2024-12-17", "o3-mini-2025-01-31", "o3", "o3-pro", "o4-mini"): "low medium high",
    ("o3-deep-research-2025-06-26", "o4-mini-deep-research"): "medium",
    ("gpt-3.5-turbo", "gpt-4-turbo", "gpt-4-0613", "gpt-4.5-preview", "chatgpt-4o-latest", "o1-mini", "o1-preview"): "",
    ("gpt-4o", "gpt-4.1-nano-2025-04-14", "gpt-audio-mini-2025-12-15", "gpt-4o-mini-search-preview-2025-03-11"): "",
    # Made of another: as that one.
    ("ft:gpt-3.5-turbo-0125:omniflo::abc", "ft:gpt-4o-mini-2024-07-18:omniflo:name:abc:ckpt-step-88"): "",
    ("ft:o4-mini-2025-04-16:omniflo::abc",): "low medium high",
    # Somebody passes them on under a name of theirs.
    ("openai/gpt-5-mini", "azure/gpt-5"): "minimal low medium high",
    ("openrouter/openai/gpt-5.1",): "none low medium high",
    # Guesses: what all that are known of the kind take.
    ("gpt-6-cyber", "gpt-6.3-sol", "gpt-7", "gpt-10.1-terra"): "low medium high xhigh max",
    ("gpt-5.7", "gpt-5.7-mini-2026-12-01"): "none low medium high xhigh",
    ("gpt-5.7-pro",): "medium high xhigh",
    ("gpt-5.7-chat-latest",): "medium",
    ("o5", "o5-mini-2027-01-01"): "low medium high",
    # Names that say nothing: the server answers.
    ("claude-5", "octopus", "o", "gpt", "openai/octopus", "gpt-oss-120b", "", "/", "ft:"): " ".join(EFFORTS),
}
PAIRS = [
    (model, effort, effort in taken.split())
    for models, taken in TAKEN.items()
    for model in models
    for effort in EFFORTS
]


def rendered(model: str, **fields: Any) -> tuple[dict[str, Any], dict[str, str]]:
    template: dict[str, Any] = {
        "instructions": "Do it.",
        "temperature": None,
        "reasoning_effort": None,
        "tools": [],
        "metadata": {},
    }
    result = render(**{**template, "model": model, **fields})
    return json.loads(result.body), dict(result.adjustments)


@pytest.mark.parametrize(("model", "effort", "is_taken"), PAIRS)
def test_an_effort_is_sent_only_where_the_model_takes_it(model: str, effort: str, is_taken: bool) -> None:
    body, left_out = rendered(model, reasoning_effort=effort)
    assert body.get("reasoning") == ({"effort": effort} if is_taken else None)
    assert ("reasoning_effort" in left_out) == (not is_taken)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("gpt-5-pro", "gpt-5-pro takes HIGH only"),
        ("gpt-5.1-2025-11-13", "gpt-5.1-2025-11-13 takes NONE, LOW, MEDIUM and HIGH only"),
        ("gpt-4o", "gpt-4o takes no reasoning_effort"),
    ],
)
def test_what_is_left_out_of_the_efforts_names_what_fits(model: str, reason: str) -> None:
    assert rendered(model, reasoning_effort="minimal")[1] == {"reasoning_effort": reason}


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        # Models, and whether they take temperature 0.5 with no effort, with NONE and with HIGH, and 1 with no effort.
        *((model, "0000") for model in ("o1", "o3-mini", "o4-mini-2025-04-16", "o1-preview", "o1-mini", "o5")),
        *((model, "0001") for model in ("gpt-5", "gpt-5-mini-2025-08-07", "gpt-5-nano")),
        *((model, "0000") for model in ("gpt-5-pro", "gpt-5-codex", "gpt-5.1-codex", "gpt-5.2-pro", "gpt-5.5-pro")),
        *((model, "0000") for model in ("gpt-5.1-chat-latest", "gpt-5.3-chat-latest")),
        *((model, "0000") for model in ("gpt-5-search-api", "gpt-4o-search-preview", "gpt-4o-mini-search-preview")),
        # Their default effort is NONE.
        *((model, "1101") for model in ("gpt-5.1", "gpt-5.2", "gpt-5.3-codex", "gpt-5.4", "gpt-5.4-nano")),
        # Theirs is MEDIUM.
        *((model, "0100") for model in ("gpt-5.5", "gpt-5.6-luna", "gpt-6-sol", "gpt-6-luna", "gpt-6.1-terra")),
        *((model, "0000") for model in ("gpt-6-astra", "gpt-6.1-sol", "gpt-6.2-sol", "gpt-6.2-astra", "gpt-7")),
        *((model, "1111") for model in ("gpt-4o", "gpt-4.1", "gpt-4", "gpt-3.5-turbo", "gpt-5-chat-latest")),
        *((model, "1111") for model in ("chatgpt-4o-latest", "gpt-audio", "octopus", "azure/octopus")),
        ("ft:gpt-5-mini:omniflo::abc", "0001"),
        ("openai/gpt-5.1", "1101"),
    ],
)
def test_a_temperature_is_sent_only_where_the_model_takes_it(model: str, takes: str) -> None:
    for (temperature, effort), taken in zip(
        [(0.5, None), (0.5, "none"), (0.5, "high"), (1.0, None)], takes, strict=True
    ):
        body, left_out = rendered(model, temperature=temperature, reasoning_effort=effort)
        assert body.get("temperature") == (temperature if taken == "1" else None)
        assert ("temperature" in left_out) == (taken == "0")


def test_an_effort_that_is_left_out_leaves_the_temperature_to_the_default() -> None:
    body, left_out = rendered("gpt-5.1", temperature=0.5, reasoning_effort="minimal")
    assert body["temperature"] == 0.5
    assert left_out.keys() == {"reasoning_effort"}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("o3", "o3 takes no temperature"),
        ("gpt-5", "gpt-5 takes temperature 1 only"),
        ("gpt-5.5", "gpt-5.5 takes a temperature with reasoning_effort NONE only"),
    ],
)
def test_what_is_left_out_of_the_temperatures_names_what_fits(model: str, reason: str) -> None:
    assert rendered(model, temperature=0.5)[1] == {"temperature": reason}


@pytest.mark.parametrize("model", [*CHAT_MODELS, *SNAPSHOTS, *seed.MODELS])
def test_every_model_of_the_sdk_and_of_the_seed_has_a_row_that_is_no_guess(model: str) -> None:
    family = family_of(model)
    assert family is not None
    assert not family.guess


def test_what_the_sdk_lists_is_no_short_list() -> None:
    assert len(CHAT_MODELS) > 80


@pytest.mark.parametrize("family", families.all_families(), ids=lambda family: family.names[0])
def test_every_row_is_whole(family: Family) -> None:
    assert set(family.efforts) <= set(EFFORTS)
    assert list(family.efforts) == sorted(family.efforts, key=EFFORTS.index)
    assert (family.default_effort is None) == (not family.efforts)
    assert family.default_effort is None or family.default_effort in family.efforts
    assert family.names
    assert family.verbosity
    assert family.source
    assert family.guess == any("*" in name or "[" in name for name in family.names)
    if family.temperature is Sampling.WITHOUT_REASONING:
        assert "none" in family.efforts
    assert family.refused_tools <= {"file_search", "code_interpreter"}
    assert {*itertools.chain.from_iterable(family.refused_with.values())} <= {"file_search", "code_interpreter"}
    assert family.refused_with.keys() <= set(family.efforts)


def test_no_name_stands_in_two_rows() -> None:
    names = [name for family in families.all_families() for name in family.names]
    assert len(names) == len(set(names))


def test_a_row_of_its_own_goes_before_the_row_of_its_base_and_both_before_a_guess() -> None:
    for name in ("gpt-4-1106-preview", "gpt-4o-2024-05-13", "gpt-5.4-mini-2026-03-17"):
        family = family_of(name)
        assert family is not None
        assert not family.guess
    assert family_of("gpt-5.4-mini-2026-03-17") is family_of("gpt-5.4-mini")
    assert family_of("gpt-5-pro") is not family_of("gpt-5")
    guessed = family_of("gpt-5.4-maxi")
    assert guessed is not None
    assert guessed.guess


def test_only_so_many_names_are_remembered() -> None:
    assert isinstance(family_of.cache_info().maxsize, int)


def tool(name: str, type: str, **config: Any) -> Any:
    return SimpleNamespace(name=name, type=type, description="", schema=None, config=config)


HOSTED = [
    tool("search", "file_search", file_search={"vector_store_ids": ["vs_1"]}),
    tool("python", "code_interpreter"),
]


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("gpt-5.4", set()),
        ("gpt-5-pro", {"python"}),
        ("gpt-5.2-pro-2025-12-11", {"python"}),
        ("gpt-4o-search-preview", {"search", "python"}),
    ],
)
def test_a_hosted_tool_is_left_out_where_the_model_refuses_it(model: str, refused: set[str]) -> None:
    body, left_out = rendered(model, tools=HOSTED)
    assert left_out == {f"tools.{of.name}": f"{model} does not take {of.type}" for of in HOSTED if of.name in refused}
    assert len(body.get("tools", [])) == 2 - len(refused)


def test_an_effort_that_a_hosted_tool_does_not_go_with_is_left_out() -> None:
    body, left_out = rendered("gpt-5-mini", reasoning_effort="minimal", tools=HOSTED)
    assert "reasoning" not in body
    assert len(body["tools"]) == 2
    assert left_out == {
        "reasoning_effort": "gpt-5-mini takes LOW, MEDIUM and HIGH only with code_interpreter and file_search"
    }
    body, left_out = rendered("gpt-5-mini", reasoning_effort="low", tools=HOSTED)
    assert body["reasoning"] == {"effort": "low"}
    assert left_out == {}


RULES = {1: "b6f9efafe9364d43"}
"""By its number, a digest of the table. Another table is another number: callers compare renderings by it."""


def test_another_table_has_another_number() -> None:
    text = Path(families.__file__).with_name("families.toml").read_text("utf-8")
    table = re.sub(r"(?m)^(rules = \d+|#.*)$", "", text)
    digest = sha256(table.encode()).hexdigest()[:16]
    assert RULES[families.rules()] == digest, "raise `rules` in families.toml, and add it to RULES with the new digest"
    assert families.rules() == max(RULES)
