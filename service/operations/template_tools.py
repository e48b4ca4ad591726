"""The tools that the templates of a type give to the model.

A change of a tool is a change of its type: the trigger that makes a revision of the type makes a new version as well.
"""

from collections.abc import Mapping
from typing import Any

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.template_types import TemplateTool
from service.operations import json_schema, rights, template_types
from service.operations.listing import Key, Page, Source

CONFIGS = ("file_search", "code_interpreter")
MAX_TOOLS = 128
MAX_SCHEMA_BYTES = 1024 * 1024

_SOURCE = Source(
    keys="template_tools tool",
    id="tool.id",
    order=("tool.name", "tool.id"),
    message_size=TemplateTool.message_size("tool"),
    rows="template_tools tool on tool.id = page.id join template_types owner on owner.id = tool.template_type_id",
    select=f"owner.name, {TemplateTool.columns('tool')}",
    of=TemplateTool.of_joined,
    key=lambda tool: (tool.name, tool.id),
)


@transaction
def create(actor: Actor, template_type: str, values: Mapping[str, Any]) -> TemplateTool:
    """Give a type one more tool; `values` are by the names of the proto's fields."""
    rights.administer(actor)
    owner = template_types.hold(template_type, mode="FOR NO KEY UPDATE")
    row = {"name": values["name"], "type": values["type"], "description": values.get("description", "")}
    row |= {"schema": values.get("schema"), "strict": values.get("strict"), "config": _config(None, values)}
    _check(row, schema_is_new=True)
    tool = TemplateTool.add(template_type=owner.id, **row)
    _check_room(owner.id)
    return _get(tool.id)


@read
def get(actor: Actor, id: str) -> TemplateTool:
    """Return one tool."""
    return _get(id)


@read
def page(actor: Actor, template_type: str, *, after: Key | None, size: int) -> Page[TemplateTool]:
    """Return the tools of a type, by name."""
    found = _SOURCE.page(
        where=["tool.template_type_id = (select id from template_types where name = %s)"],
        parameters=[template_type],
        after=after,
        size=size,
    )
    if not found.rows:
        template_types.get(actor, name=template_type)
    return found


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, Any], *, etag: str) -> TemplateTool:
    """Write `changes`, unless `etag` is given and no longer current, or what comes out would be no tool."""
    rights.administer(actor)
    tool = _locked(id, etag)
    names = ("name", "type", "description", "schema", "strict")
    row = {name: changes.get(name, getattr(tool, name)) for name in names}
    row["config"] = _config(tool.config, changes)
    _check(row, schema_is_new=row["schema"] != tool.schema)
    changed = tool.change(**row)
    if changed is not tool:
        _check_room(tool.template_type_id)
    return _get(id)


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Take a tool away from its type."""
    rights.administer(actor)
    tool = _locked(id, etag)
    tool.delete_instance()


def _get(id: str) -> TemplateTool:
    found = TemplateTool.with_type("where tool.id = %s", [id])
    if not found:
        raise errors.not_found("TEMPLATE_TOOL", id=id)
    return found[0]


def _locked(id: str, etag: str) -> TemplateTool:
    """Lock the type, which a tool never leaves, and then the tool."""
    template_types.lock(_get(id).template_type_id)
    tool = TemplateTool.lock_one(TemplateTool.id == id)
    if tool is None:
        raise errors.not_found("TEMPLATE_TOOL", id=id)
    tool.require_etag(etag)
    return tool


def _config(config: dict[str, Any] | None, changes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the config after the changes: it has one member, so setting one takes the other away."""
    for name in CONFIGS:
        if changes.get(name) is not None:
            return {name: changes[name]}
        if name in changes and config is not None and name in config:
            config = None
    return config


def _check(row: Mapping[str, Any], *, schema_is_new: bool) -> None:
    violations = []
    if (row["type"] == "function") != (row["schema"] is not None):
        rule = "is required for a FUNCTION tool" if row["schema"] is None else "is for FUNCTION tools only"
        violations.append(("template_tool.schema", rule))
    elif row["schema"] is not None and schema_is_new and (problem := json_schema.problem(row["schema"])):
        violations.append(("template_tool.schema", problem))
    if row["type"] != "function" and row["strict"] is not None:
        violations.append(("template_tool.strict", "is for FUNCTION tools only"))
    violations += [
        (f"template_tool.{name}", f"is for {name.upper()} tools only")
        for name in row["config"] or ()
        if name != row["type"]
    ]
    if violations:
        raise errors.field_invalid(*violations)


def _check_room(type_id: str) -> None:
    """Raise unless the type, which is locked, has no more tools and schemas than it may."""
    tools, schema_bytes = database.execute_sql(
        "select count(*), coalesce(sum(octet_length(schema)), 0) from template_tools where template_type_id = %s",
        [type_id],
    ).fetchone()
    for limit, is_passed in (
        (f"{MAX_TOOLS} tools", tools > MAX_TOOLS),
        (f"{MAX_SCHEMA_BYTES} bytes of schemas", schema_bytes > MAX_SCHEMA_BYTES),
    ):
        if is_passed:
            raise errors.FailedPrecondition(
                "TEMPLATE_TYPE_FULL", f"the template type may have at most {limit}", {"limit": limit}
            )
