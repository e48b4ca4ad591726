"""Templates moved from one model to another, and what they lose by it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.operations import openai_models, rights
from service.rendering import families, strict


class Loss(NamedTuple):
    """A setting that the old model took of templates, and that the new one does not take."""

    field: str
    """`reasoning_effort`, `temperature`, `tools`, or `tools.strict` for functions."""
    value: str
    """The effort, or the type of the tool; otherwise empty."""
    reason: str


class Replacement(NamedTuple):
    templates: int
    """How many there are to move."""
    losses: dict[Loss, int]
    """How many of them lose each setting, in order."""


# In the order of the ids, as everywhere.
_MOVED = """
    locked as (
        select id from templates where model_id = %s order by id for no key update
    ), moved as (
        update templates t
        set model_id = %s, version = version + 1, update_time = greatest(clock_timestamp(), update_time)
        from locked where t.id = locked.id
        returning t.template_type_id, t.reasoning_effort, t.temperature
    )
"""
_TO_MOVE = "moved as (select template_type_id, reasoning_effort, temperature from templates where model_id = %s)"
# Temperatures other than 1 are all the same to a model, so there are few groups, however many templates there are. A
# file search without vector stores is sent to no model.
_SETTINGS = """
    with {moved}, of_types as (
        select template_type_id, reasoning_effort, temperature = 1 as is_one, min(temperature) as temperature,
          count(*) as templates
        from moved group by template_type_id, reasoning_effort, is_one
    ), with_tools as (
        select of_types.*, template_type_id = any(%s) as is_less_strict, array(
            select distinct type::text from template_tools tool
            where tool.template_type_id = of_types.template_type_id
              and (type <> 'file_search' or jsonb_array_length(config -> 'file_search' -> 'vector_store_ids') > 0)
            order by 1
        ) as tools
        from of_types
    )
    select reasoning_effort::text, min(temperature), tools, is_less_strict, sum(templates)::bigint
    from with_tools group by reasoning_effort, is_one, tools, is_less_strict
"""


@transaction
def replace(actor: Actor, *, old_openai_id: str, new_openai_id: str) -> Replacement:
    """Move every template of one model to another."""
    rights.administer(actor)
    old, new = openai_models.hold(old_openai_id), openai_models.hold(new_openai_id)
    return _replacement(old_openai_id, new_openai_id, old.id, _MOVED, [old.id, new.id])


@read
def preview(actor: Actor, *, old_openai_id: str, new_openai_id: str) -> Replacement:
    """Return what `replace` would, and write nothing."""
    rights.administer(actor)
    old, _ = (openai_models.get(actor, openai_id=openai_id) for openai_id in (old_openai_id, new_openai_id))
    return _replacement(old_openai_id, new_openai_id, old.id, _TO_MOVE, [old.id])


def _replacement(old: str, new: str, old_id: str, moved: str, parameters: Sequence[str]) -> Replacement:
    """Run the query with these `moved` templates, and return what they lose."""
    less_strict = _types_that_lose_strict(old, new, old_id)
    rows = database.execute_sql(_SETTINGS.format(moved=moved), [*parameters, less_strict]).fetchall()
    losses: Counter[Loss] = Counter()
    for effort, temperature, tools, is_less_strict, count in rows:
        before, after = (
            families.misfits(model, effort=effort, temperature=temperature, tools=tools) for model in (old, new)
        )
        for setting, why in after.items():
            if setting not in before:
                losses[_loss(setting, effort, why)] += count
        if is_less_strict:
            losses[Loss("tools.strict", "", f"{new} takes fewer schemas with strict: it was fine-tuned")] += count
    return Replacement(sum(row[-1] for row in rows), dict(sorted(losses.items())))


def _loss(setting: str, effort: str, why: str) -> Loss:
    match setting:
        case "reasoning_effort":
            return Loss(setting, effort, why)
        case "temperature":
            return Loss(setting, "", why)
        case _:
            return Loss("tools", setting, why)


def _types_that_lose_strict(old: str, new: str, old_id: str) -> list[str]:
    """Return the ids of the types, of those of the old model's templates, with a function that is strict there only."""
    if families.is_fine_tuned(old) or not families.is_fine_tuned(new):
        return []
    types = database.execute_sql("select distinct template_type_id from templates where model_id = %s", [old_id])
    # A type at a time: all its schemas together have a bound.
    return [id for (id,) in types.fetchall() if _loses_strict(id, old, new)]


def _loses_strict(type_id: str, old: str, new: str) -> bool:
    functions = database.execute_sql(
        "select schema, strict from template_tools where template_type_id = %s and type = 'function'", [type_id]
    ).fetchall()
    return any(
        strict.strictness(schema, old, wish)[0] and not strict.strictness(schema, new, wish)[0]
        for schema, wish in functions
    )
