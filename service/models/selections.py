"""Which template a user picked for each type."""

from collections.abc import Sequence
from typing import Any, Self

import peewee as pw

from service.database.handle import database
from service.models.revisions import revised
from service.models.row import Text, Versioned
from service.models.template_types import TemplateType
from service.models.templates import Template, View, joined, selected
from service.models.users import User


class Selection(Versioned):
    user = pw.ForeignKeyField(User, lazy_load=False, on_delete="CASCADE")
    template_type = pw.ForeignKeyField(TemplateType, lazy_load=False)
    template = pw.ForeignKeyField(Template, lazy_load=False, on_delete="CASCADE")
    organization_id = Text(null=True)
    """Refers, together with the user, to a member. None is platform-wide."""
    scope = Text()
    """The organization's id, or empty; the database makes it."""
    template_scope = Text(default="")
    """The template's, which is the selection's own or the platform's."""
    revision = pw.BigIntegerField(null=True)
    """The one that the user stays on; None follows the template."""

    class Meta:
        table_name = "user_template_selections"

    user_id: str
    template_type_id: str
    template_id: str
    selected: Template
    """The template that was picked."""

    @classmethod
    def of_view(cls, view: View, values: Sequence[Any]) -> Self:
        """Make a selection of its columns and its template's `selected(view)`."""
        end = len(cls.names())
        selection = cls.of(values[:end])
        selection.selected = Template.of_view(view, values[end:])
        return selection

    @classmethod
    def in_view(cls, view: View, tail: str, parameters: Sequence[object]) -> list[Self]:
        """Return the selections `s` that the tail chooses, each with its template `t`, in one query."""
        sql = f"select {cls.columns('s')}, {selected(view, is_revised=True)} from {cls.tables(view)} {tail}"
        return [cls.of_view(view, values) for values in database.execute_prepared(sql, parameters).fetchall()]

    @classmethod
    def tables(cls, view: View, on: str = "") -> str:
        """Return the tables of selections `s`, joined `on` others, each with its template `t` as it was selected."""
        pinned = revised("(select coalesce(s.revision, base.revision), '')", where="base.id = s.template_id")
        return f"user_template_selections s {on} cross join {joined(view, pinned)}"
