"""The templates, and what is read together with them."""

import functools
from collections.abc import Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any, NamedTuple, Self

import orjson
import peewee as pw
from playhouse.postgres_ext import ArrayField

from service import cache, tags
from service.database.handle import database
from service.models.assistants import Copies
from service.models.openai_models import OpenAIModel
from service.models.organizations import Organization
from service.models.row import Choice, Text, Versioned
from service.models.template_types import TemplateType, Tool, renderable_tools_of, size_of_tools, tools_of
from service.models.users import User


class View(Enum):
    """How much of a template is read."""

    BASIC = 0
    """The template with its instructions, variables and response_format."""
    SUMMARY = 1
    """Without them."""
    FULL = 2
    """With them and with what the template refers to."""
    RENDERABLE = "renderable"
    """With everything that a rendering needs. Not in the proto's enum: no caller can ask for it."""


class Details(NamedTuple):
    """None for what is gone, to which an earlier revision refers."""

    author: User
    template_type: TemplateType | None
    model: OpenAIModel | None


class _Beside(NamedTuple):
    """What is read of every template beside its own columns, in the order of `selected`."""

    type_name: str
    openai_id: str
    template_xmin: str
    type_xmin: str | None
    model_xmin: str | None
    label: str
    latest: int
    """The number of the newest revision."""
    copy_state: str
    copy_id: str | None
    copy_xmin: str | None


class Renderable(NamedTuple):
    tools: Sequence[Tool]
    """Of its type, by name."""
    shutdown_date: date | None
    """The model's."""
    type_revision: int
    """The revision of the type whose tools these are; 0 where the type is gone."""


class ReasoningEffort(Choice):
    field_type = "reasoning_effort"


class Verbosity(Choice):
    field_type = "verbosity"


class Template(Versioned):
    title = pw.TextField()
    description = pw.TextField(default="")
    instructions = pw.TextField()
    user = pw.ForeignKeyField(User, lazy_load=False)
    template_type = pw.ForeignKeyField(TemplateType, lazy_load=False)
    is_default = pw.BooleanField(default=False)
    model = pw.ForeignKeyField(OpenAIModel, lazy_load=False)
    temperature = pw.DoubleField(null=True)
    reasoning_effort = ReasoningEffort(null=True)
    variables = pw.JSONField(constraints=[pw.SQL("default '[]'")])
    """Each with its name, description, required and default_value."""
    response_format = pw.TextField(null=True)
    """The text of a JSON Schema."""
    verbosity = Verbosity(null=True)
    max_output_tokens = pw.BigIntegerField(null=True)
    top_p = pw.DoubleField(null=True)
    tool_choice = Text(null=True)
    """`none`, `auto`, `required`, or the name of a tool."""
    parallel_tool_calls = pw.BooleanField(null=True)
    disabled_tools = ArrayField(pw.TextField, index=False, default=list)
    tags = ArrayField(pw.TextField, index=False, default=list)
    assistant_id = pw.TextField(null=True)
    organization = pw.ForeignKeyField(Organization, lazy_load=False, null=True)
    """None is platform-wide."""
    scope = Text()
    """The organization's id, or empty; the database makes it."""
    revision = pw.BigIntegerField(constraints=[pw.SQL("default 1")])
    """The newest one, or the one that was asked for; the database numbers them."""
    labels = pw.JSONField(constraints=[pw.SQL("default '{}'")])
    """Revisions by label."""
    # The column `words` is for conditions alone, and is never read.

    class Meta:
        table_name = "templates"

    user_id: str
    template_type_id: str
    model_id: str
    organization_id: str | None
    type_name: str
    """The name of the type."""
    openai_id: str
    """The model's."""
    assistant_state: str = "none"
    """That of its copy as an assistant."""
    label: str = ""
    """The one that this revision was asked for by."""
    details: Details | None = None
    """In the FULL view alone."""
    renderable: Renderable | None = None
    """In the RENDERABLE view alone."""

    @classmethod
    def of_view(cls, view: View, values: Sequence[Any]) -> Self:
        """Make a template of values in the order of `selected(view)`."""
        texts, packed, rest = values[: len(_TEXTS)], orjson.loads(values[len(_TEXTS)]), values[len(_TEXTS) + 1 :]
        template = cls(__no_default__=1)
        data = template.__data__
        data.update(zip(_PACKED, packed, strict=False))
        data.update(zip(_TEXTS, texts, strict=True))
        for name in ("create_time", "update_time"):
            data[name] = datetime.fromisoformat(data[name])
        beside = _Beside._make(packed[len(_PACKED) : _PACKED_OF_ALL])
        template.type_name, template.openai_id = beside.type_name, beside.openai_id
        template.label, template.is_latest = beside.label, data["revision"] == beside.latest
        template.assistant_state, data["assistant_id"] = beside.copy_state, beside.copy_id
        if cache.is_watched():
            cache.saw(tags.template(template.id), beside.template_xmin)
            if beside.copy_xmin is not None:
                cache.saw(tags.copy(template.id), beside.copy_xmin)
            cache.saw(tags.type(template.template_type_id), beside.type_xmin)
            cache.saw(tags.model(template.model_id), beside.model_xmin)
        if view is View.FULL:
            left = iter(rest)
            author = User.of(next(left) for _ in User.names())
            template_type = TemplateType.of_joined([next(left) for _ in ("tools", *TemplateType.names())])
            model = OpenAIModel.of(left)
            template.details = Details(author, template_type if template_type.id else None, model if model.id else None)
            cache.saw(tags.user(template.user_id))
        elif view is View.RENDERABLE:
            tools, type_revision = packed[_PACKED_OF_ALL:]
            # A column of its own: the driver knows a day that is infinite.
            (shutdown_date,) = rest
            template.renderable = Renderable([Tool(*tool) for tool in tools or ()], shutdown_date, type_revision)
        return template

    @classmethod
    def count_in(cls, scopes: tuple[str, Sequence[object]], column: str, value: str) -> int:
        """Return how many have the value, in the scopes that a query with its parameters chooses."""
        query, parameters = scopes
        sql = f"select count(*) from templates where {column} = %s and scope in ({query})"
        ((count,),) = database.execute_sql(sql, [value, *parameters]).fetchall()
        return int(count)

    @classmethod
    def in_view(cls, view: View, tail: str, parameters: Sequence[object], *, revised: str | None = None) -> list[Self]:
        """Return the templates `t` that the tail of a select chooses, with all that the view asks for, in one query.

        `revised` has them in another revision than the latest, as `revised` in service/models/revisions.py makes it.
        """
        sql = _query(view, tail, revised, _has_copies(view))
        return [cls.of_view(view, values) for values in database.execute_prepared(sql, parameters).fetchall()]


_TEXTS = ("instructions", "response_format")
"""The fields that are read as columns of their own. They may be long, and what is in JSON is escaped."""
_PACKED = tuple(name for name in Template.fields() if name not in _TEXTS)
"""The fields that are read as one column of JSON, together with what is beside a template. A column takes the client as
long as several fields in JSON, and JSON takes PostgreSQL no longer than columns."""
_PACKED_OF_ALL = len(_PACKED) + len(_Beside._fields)
"""How many there are of every view; those that a rendering needs come after them."""

_LONG = {"instructions": "''", "response_format": "null", "variables": "'[]'::jsonb"}
"""What the SUMMARY view has in place of the columns that may be long."""


def selected(view: View, *, if_: str = "true", is_revised: bool = False) -> str:
    """Return the select list of a view, for the tables of `joined`; what may be large is null unless `if_`."""
    return _selected(view, if_, is_revised, _has_copies(view))


def _has_copies(view: View) -> bool:
    """Return whether the state of its copy is read with a template."""
    return Copies.are_shown and view is not View.RENDERABLE


@functools.cache
def _selected(view: View, if_: str, is_revised: bool, has_copies: bool) -> str:
    columns = {name: f"t.{column}" for name, column in zip(Template.fields(), Template.names(), strict=True)}
    for name, empty in _LONG.items():
        columns[name] = empty if view is View.SUMMARY else f"case when {if_} then t.{name} end"
    packed = [columns[name] for name in _PACKED]
    # xmin, not version: SQL by hand raises no version.
    xmins = ["t.xmin::text", "tt.xmin::text", "m.xmin::text"]
    if is_revised:
        packed += [
            "coalesce(t.type_name, tt.name)",
            "coalesce(t.openai_id, m.openai_id)",
            *xmins,
            "t.label",
            "t.latest",
        ]
    else:
        packed += ["tt.name", "m.openai_id", *xmins, "''", "t.revision"]
    if has_copies:
        packed += ["coalesce(copy.state, 'none')::text", "coalesce(copy.assistant_id, t.assistant_id)"]
        packed += ["coalesce(copy.xmin::text, '')"]
    else:
        packed += ["'none'", "t.assistant_id", "null"]
    if view is View.RENDERABLE:
        packed.append(f"case when {if_} then {renderable_tools_of('tt.id')} end")
        packed.append("coalesce(tt.revision, 0)")
    selected = [*(columns[name] for name in _TEXTS), f"json_build_array({', '.join(packed)})::text"]
    if view is View.FULL:
        tools = f"case when {if_} then {tools_of('tt.id')} end"
        selected += [User.columns("u"), tools, TemplateType.columns("tt"), OpenAIModel.columns("m")]
    elif view is View.RENDERABLE:
        selected.append("m.shutdown_date")
    return ", ".join(selected)


def joined(view: View, revised: str | None = None) -> str:
    """Return the tables that `selected` needs: the templates `t` and what they refer to.

    The type and the model that `revised` templates had then may be gone.
    """
    return _joined(view, revised, _has_copies(view))


def _joined(view: View, revised: str | None, has_copies: bool) -> str:
    join = "join" if revised is None else "left join"
    author = "join users u on u.id = t.user_id" if view is View.FULL else ""
    copy = "left join assistants copy on copy.template_id = t.id" if has_copies else ""
    return (
        f"{revised or 'templates t'} {join} template_types tt on tt.id = t.template_type_id"
        f" {join} openai_models m on m.id = t.model_id {copy} {author}"
    )


@functools.cache
def _query(view: View, tail: str, revised: str | None, has_copies: bool) -> str:
    columns = _selected(view, "true", revised is not None, has_copies)
    return f"select {columns} from {_joined(view, revised, has_copies)} {tail}"


@functools.cache
def message_size(view: View) -> str:
    """Return the expression for the size of the template `t` in bytes, no smaller than its message."""
    size = Template.message_size("t", *(_LONG if view is View.SUMMARY else ()))
    if view is View.FULL:
        of_type = TemplateType.size_with_tools("x")
        size += (
            f" + (select {User.message_size('x')} from users x where x.id = t.user_id)"
            f" + coalesce((select {of_type} from template_types x where x.id = t.template_type_id), 0)"
            f" + coalesce((select {OpenAIModel.message_size('x')} from openai_models x where x.id = t.model_id), 0)"
        )
    elif view is View.RENDERABLE:
        size += f" + {size_of_tools('t.template_type_id')}"
    return size
