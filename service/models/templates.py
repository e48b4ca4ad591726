"""The templates, and what is read together with them."""

import functools
from collections.abc import Sequence
from datetime import date
from enum import Enum
from typing import Any, NamedTuple, Self

import peewee as pw

from service import cache
from service.database.handle import database
from service.models.openai_models import OpenAIModel
from service.models.organizations import Organization
from service.models.row import Text, Versioned
from service.models.template_types import TemplateType, Tool, octets_of_tools, renderable_tools_of, tools_of
from service.models.users import User


class View(Enum):
    """How much of a template is read."""

    BASIC = 0
    """The template with its instructions."""
    SUMMARY = 1
    """Without them."""
    FULL = 2
    """With them and with what the template refers to."""
    RENDERABLE = "renderable"
    """With them and with what a rendering is made of. No number is its own, so no caller can ask for it."""


class Details(NamedTuple):
    author: User
    template_type: TemplateType
    model: OpenAIModel


class Renderable(NamedTuple):
    tools: Sequence[Tool]
    """Of its type, by name."""
    shutdown_date: date | None
    """The model's."""


class ReasoningEffort(pw.TextField):
    field_type = "reasoning_effort"


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
    assistant_id = pw.TextField(null=True)
    organization = pw.ForeignKeyField(Organization, lazy_load=False, null=True)
    """None is platform-wide."""
    scope = Text()
    """The organization's id, or empty; the database makes it."""
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
    details: Details | None = None
    """In the FULL view alone."""
    renderable: Renderable | None = None
    """In the RENDERABLE view alone."""

    @classmethod
    def of_view(cls, view: View, values: Sequence[Any]) -> Self:
        """Make a template of values in the order of `selected(view)`."""
        end = len(cls.names())
        template = cls.of(values[:end])
        template.type_name, template.openai_id, written_by = values[end : end + 3]
        # Not its version, which nobody raises by hand.
        cache.saw(f"template:{template.id}", written_by)
        if view is View.FULL:
            rest = iter(values[end + 3 :])
            template.details = Details(
                User.of(next(rest) for _ in User.names()),
                TemplateType.of_joined([next(rest) for _ in ("tools", *TemplateType.names())]),
                OpenAIModel.of(rest),
            )
            type_version, model_version = template.details.template_type.version, template.details.model.version
        elif view is View.RENDERABLE:
            type_version, model_version, tools, shutdown_date = values[end + 3 :]
            template.renderable = Renderable([Tool(*tool) for tool in tools or ()], shutdown_date)
        else:
            return template
        cache.saw(f"type:{template.template_type_id}", type_version)
        cache.saw(f"model:{template.model_id}", model_version)
        return template

    @classmethod
    def in_view(cls, view: View, tail: str, parameters: Sequence[object]) -> list[Self]:
        """Answer the templates `t` that the tail of a select chooses, with all that the view asks for, in one query."""
        sql = f"select {selected(view)} from {joined(view)} {tail}"
        return [cls.of_view(view, values) for values in database.execute_prepared(sql, parameters).fetchall()]


@functools.cache
def selected(view: View, *, if_: str = "true") -> str:
    """Answer the select list of a view, for the tables of `joined(view)`; what may be large is null unless `if_`."""
    columns = [f"t.{column}" for column in Template.names()]
    instructions = "''" if view is View.SUMMARY else f"case when {if_} then t.instructions end"
    columns[Template.names().index("instructions")] = instructions
    columns += ["tt.name", "m.openai_id", "t.xmin::text"]
    if view is View.FULL:
        tools = f"case when {if_} then {tools_of('tt.id')} end"
        columns += [User.columns("u"), tools, TemplateType.columns("tt"), OpenAIModel.columns("m")]
    elif view is View.RENDERABLE:
        tools = f"case when {if_} then {renderable_tools_of('tt.id')} end"
        columns += ["tt.version", "m.version", tools, "m.shutdown_date"]
    return ", ".join(columns)


def joined(view: View) -> str:
    """Answer the tables that `selected(view)` needs: the templates `t` and what they refer to."""
    author = "join users u on u.id = t.user_id" if view is View.FULL else ""
    return (
        "templates t join template_types tt on tt.id = t.template_type_id"
        f" join openai_models m on m.id = t.model_id {author}"
    )


def octets(view: View) -> str:
    """Answer the expression for the size of the template `t`, no smaller than its message."""
    size = "octet_length(t.title) + octet_length(t.description) + 1000"
    if view is not View.SUMMARY:
        size += " + octet_length(t.instructions)"
    if view is View.FULL:
        size += (
            " + 1500 + (select octet_length(description) from template_types where id = t.template_type_id)"
            " + (select octet_length(name) + octet_length(description) from openai_models where id = t.model_id)"
            f" + {octets_of_tools('t.template_type_id')}"
        )
    elif view is View.RENDERABLE:
        size += f" + {octets_of_tools('t.template_type_id')}"
    return size
