"""The types of templates, and the tools of each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

import peewee as pw

from service.database.handle import database
from service.models.row import Choice, Text, Versioned


class TemplateType(Versioned):
    name = Text(unique=True)
    description = pw.TextField(default="")
    revision = pw.BigIntegerField(constraints=[pw.SQL("default 1")])
    """The newest one; the database numbers them."""

    class Meta:
        table_name = "template_types"

    tools: Sequence["TemplateTool"] = ()
    """By name; only where a query was asked for them."""

    @classmethod
    def size_with_tools(cls, alias: str) -> str:
        """Return the expression for the size of a type with its tools in bytes, no smaller than its message."""
        return f"{cls.message_size(alias)} + {size_of_tools(f'{alias}.id')}"

    @classmethod
    def with_tools(cls, tail: str, parameters: Sequence[object]) -> list[Self]:
        """Return the types `t` that the tail of a select chooses, each with its tools, in one query."""
        sql = f"select {tools_of('t.id')}, {cls.columns('t')} from template_types t {tail}"
        return [cls.of_joined(values) for values in database.execute_prepared(sql, parameters).fetchall()]

    @classmethod
    def of_joined(cls, values: Sequence[Any]) -> Self:
        """Make a type of its tools as `tools_of` gives them, and its columns."""
        template_type = cls.of(values[1:])
        template_type.tools = [TemplateTool.of_json(tool) for tool in values[0] or ()]
        return template_type


class Tool(NamedTuple):
    """As much of a tool as a rendering needs."""

    name: str
    type: str
    description: str
    schema: str | None
    config: dict[str, Any] | None
    strict: bool | None


class ToolType(Choice):
    field_type = "openai_tool_type"


class TemplateTool(Versioned):
    template_type = pw.ForeignKeyField(TemplateType, lazy_load=False, on_delete="CASCADE")
    name = Text()
    type = ToolType()
    description = pw.TextField(default="")
    schema = pw.TextField(null=True)
    config = pw.JSONField(null=True)
    strict = pw.BooleanField(null=True)
    """None and True: wherever OpenAI takes the schema so. False: never."""

    class Meta:
        table_name = "template_tools"

    template_type_id: str
    type_name: str
    """The name of the template type; only where a query was asked for it."""

    @classmethod
    def of_joined(cls, values: Sequence[Any]) -> Self:
        """Make a tool of the name of its type, and its columns."""
        tool = cls.of(values[1:])
        tool.type_name = values[0]
        return tool

    @classmethod
    def with_type(cls, tail: str, parameters: Sequence[object]) -> list[Self]:
        """Return the tools `tool` that the tail of a select chooses, with the names of their types, in one query."""
        sql = (
            f"select owner.name, {cls.columns('tool')} from template_tools tool"
            f" join template_types owner on owner.id = tool.template_type_id {tail}"
        )
        return [cls.of_joined(values) for values in database.execute_prepared(sql, parameters).fetchall()]

    @classmethod
    def of_json(cls, row: Mapping[str, Any]) -> Self:
        """Make a tool of its row as `tools_of` gives it."""
        tool = cls.of(row[column] for column in cls.names())
        tool.create_time = datetime.fromisoformat(row["create_time"])
        tool.update_time = datetime.fromisoformat(row["update_time"])
        tool.type_name = row["type_name"]
        return tool


def tools_of(type_id: str) -> str:
    """Return the expression for the tools of a type, by name, as JSON."""
    return f"""(
        select coalesce(json_agg(row order by row.name, row.id), '[]')
        from (
            select tool.*, owner.name as type_name
            from template_tools tool join template_types owner on owner.id = tool.template_type_id
            where tool.template_type_id = {type_id}
        ) row
    )"""


def renderable_tools_of(type_id: str) -> str:
    """Return the expression for the tools of a type, by name, as a JSON array of the values of each Tool."""
    values = ", ".join(f"tool.{name}" for name in Tool._fields)
    return f"""(
        select coalesce(json_agg(json_build_array({values}) order by tool.name, tool.id), '[]')
        from template_tools tool where tool.template_type_id = {type_id}
    )"""


def size_of_tools(type_id: str) -> str:
    """Return the expression for the size of a type's tools in bytes, no smaller than their messages."""
    return f"""(
        select coalesce(sum({TemplateTool.message_size("tool")}), 0)
        from template_tools tool where tool.template_type_id = {type_id}
    )"""
