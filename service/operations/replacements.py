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
    """`reasoning_effort`, `temperature`, `top_p`, `verbosity`, `parallel_tool_calls`, `response_format.strict`, `tools`
    or `tools.strict`."""
    value: str
    """The effort, the verbosity, or the type of the tool; otherwise empty."""
    reason: str


class Replacement(NamedTuple):
    templates: int
    """How many there are to move."""
    losses: dict[Loss, int]
    """How many of them lose each setting, in order."""


_READ = (
    "t.template_type_id, t.reasoning_effort, t.temperature, t.top_p, t.verbosity, t.parallel_tool_calls,"
    " t.disabled_tools"
)
# In the order of the ids, as everywhere.
_MOVED = f"""
    locked as (
        select id from templates where model_id = %s order by id for no key update
    ), moved as (
        update templates t
        set model_id = %s, version = version + 1, update_time = greatest(clock_timestamp(), update_time)
        from locked where t.id = locked.id
        returning {_READ}
    )
"""
_TO_MOVE = f"moved as (select {_READ} from templates t where model_id = %s)"
# Temperatures other than 1 are all the same to a model, and so is each top_p, so there are few groups, however many
# templates there are. A file search without vector stores is sent to no model.
_SETTINGS = """
    with {moved}, of_types as (
        select template_type_id, reasoning_effort, verbosity, parallel_tool_calls, disabled_tools,
          temperature = 1 as is_hot, min(temperature) as temperature, top_p = 1 as is_all, min(top_p) as top_p,
          count(*) as templates
        from moved
        group by template_type_id, reasoning_effort, verbosity, parallel_tool_calls, disabled_tools, is_hot, is_all
    ), with_tools as (
        select of_types.*, exists (
            select from template_tools tool
            where tool.template_type_id = of_types.template_type_id and id = any(%s) and name <> all(disabled_tools)
        ) as is_less_strict, array(
            select distinct type::text from template_tools tool
            where tool.template_type_id = of_types.template_type_id and name <> all(disabled_tools)
              and (type <> 'file_search' or jsonb_array_length(config -> 'file_search' -> 'vector_store_ids') > 0)
            order by 1
        ) as tools
        from of_types
    )
    select reasoning_effort::text, min(temperature), min(top_p), verbosity::text, parallel_tool_calls, tools,
      is_less_strict, sum(templates)::bigint
    from with_tools
    group by reasoning_effort, is_hot, is_all, verbosity, parallel_tool_calls, tools, is_less_strict
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
    less_strict, formats = _tools_that_lose_strict(old, new, old_id), _formats_that_lose_strict(old, new, old_id)
    why_less = f"{new} takes fewer schemas with strict: it was fine-tuned"
    rows = database.execute_sql(_SETTINGS.format(moved=moved), [*parameters, less_strict]).fetchall()
    losses: Counter[Loss] = Counter({Loss("response_format.strict", "", why_less): formats} if formats else {})
    for effort, temperature, top_p, verbosity, parallel, tools, is_less_strict, count in rows:
        before, after = (
            families.misfits(
                model,
                effort=effort,
                temperature=temperature,
                top_p=top_p,
                verbosity=verbosity,
                parallel_tool_calls=parallel,
                tools=tools,
            )
            for model in (old, new)
        )
        values = {"reasoning_effort": effort, "verbosity": verbosity}
        values |= dict.fromkeys(("temperature", "top_p", "parallel_tool_calls"), "")
        for setting, why in after.items():
            if setting not in before:
                is_tool = setting not in values
                losses[Loss("tools" if is_tool else setting, setting if is_tool else values[setting], why)] += count
        if is_less_strict:
            losses[Loss("tools.strict", "", why_less)] += count
    return Replacement(sum(row[-1] for row in rows), dict(sorted(losses.items())))


def _tools_that_lose_strict(old: str, new: str, old_id: str) -> list[str]:
    """Return the ids of the functions, of the types of the old model's templates, that are strict there only."""
    if not _is_less_strict(old, new):
        return []
    types = database.execute_sql("select distinct template_type_id from templates where model_id = %s", [old_id])
    # A type at a time: all its schemas together have a bound.
    return [id for (type_id,) in types.fetchall() for id in _that_lose_strict(type_id, old, new)]


def _that_lose_strict(type_id: str, old: str, new: str) -> list[str]:
    functions = database.execute_sql(
        "select id, schema, strict from template_tools where template_type_id = %s and type = 'function'", [type_id]
    ).fetchall()
    return [id for id, schema, wish in functions if _loses_strict(schema, old, new, wish)]


def _formats_that_lose_strict(old: str, new: str, old_id: str) -> int:
    """Return how many of the old model's templates have a response_format that is strict there only."""
    if not _is_less_strict(old, new):
        return 0
    sql = (
        "select min(id), count(*) from templates where model_id = %s and response_format is not null"
        " group by md5(response_format)"
    )
    total = 0
    # One text at a time, and each only once.
    for id, count in database.execute_sql(sql, [old_id]).fetchall():
        ((schema,),) = database.execute_sql("select response_format from templates where id = %s", [id]).fetchall()
        total += count if _loses_strict(schema, old, new) else 0
    return total


def _is_less_strict(old: str, new: str) -> bool:
    return families.is_fine_tuned(new) and not families.is_fine_tuned(old)


def _loses_strict(schema: str, old: str, new: str, wish: bool | None = None) -> bool:
    return strict.strictness(schema, old, wish)[0] and not strict.strictness(schema, new, wish)[0]
