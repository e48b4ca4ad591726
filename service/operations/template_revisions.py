"""What templates said before: each revision, made to be said again, and compared."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.revisions import UNREVISED, revised
from service.models.row import OVERHEAD_BYTES, split
from service.models.templates import Template, View, joined, message_size, selected
from service.operations import revisions, templates
from service.operations.listing import Key, Page, Source


class _About(NamedTuple):
    """What is read of a revision beside what it says."""

    message: str
    actor: str
    author_id: str | None
    create_time: datetime


class Revision(NamedTuple):
    about: _About
    template: Template
    """As it was."""


_THIS = revised("(select v.revision, '')", where="base.id = v.template_id")


def _selected(view: View) -> str:
    return f"{', '.join(f'v.{name}' for name in _About._fields)}, {selected(view, is_revised=True)}"


def _of(view: View, values: Sequence[Any]) -> Revision:
    about, rest = split(_About, values)
    return Revision(about, Template.of_view(view, rest))


@read
def get(actor: Actor, template_id: str, revision: int, *, view: View) -> Revision:
    """Return one revision of a template."""
    found = database.execute_prepared(
        f"select {_selected(view)} from template_revisions v cross join {joined(view, _THIS)}"
        " where v.template_id = %s and v.revision = %s",
        [template_id, revision],
    ).fetchall()
    # Raises for who may not read it as well.
    templates.get(actor, template_id, view=View.SUMMARY)
    if not found:
        raise revisions.not_found(template_id, revision)
    return _of(view, found[0])


@read
def page(actor: Actor, template_id: str, *, view: View, after: Key | None, size: int) -> Page[Revision]:
    """Return the revisions of a template, newest first."""
    templates.get(actor, template_id, view=View.SUMMARY)
    return Source(
        keys=f"template_revisions v cross join {_THIS}",
        id="v.revision",
        order=("v.revision", "v.template_id"),
        descending=True,
        message_size=f"octet_length(v.message) + octet_length(v.actor) + {OVERHEAD_BYTES} + {message_size(view)}",
        rows="template_revisions v on v.revision = page.id and v.template_id = page.k1"
        f" cross join {joined(view, _THIS)}",
        select=_selected(view),
        of=lambda values: _of(view, values),
        key=lambda revision: (revision.template.revision, revision.template.id),
    ).page(where=["v.template_id = %s"], parameters=[template_id], after=after, size=size)


@read
def diff(actor: Actor, template_id: str, first: int, second: int) -> tuple[Template, Template]:
    """Return a template in two revisions."""
    one, other = (templates.get(actor, template_id, revision=number, view=View.BASIC) for number in (first, second))
    return one, other


@transaction
def restore(actor: Actor, template_id: str, revision: int, *, etag: str, view: View) -> Template:
    """Make a template say what it said in a revision."""
    then = templates.get(actor, template_id, revision=revision, view=View.BASIC)
    said = set(Template.names()) - UNREVISED - {"template_type_id", "model_id"}
    changes = {name: getattr(then, name) for name in said} | {"template_type": then.type_name, "model": then.openai_id}
    return templates.update(actor, template_id, changes, etag=etag, view=view)
