"""Which template a user works with, for each type."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service import errors
from service.actor import Actor
from service.db import database, read, transaction
from service.models.row import new_id
from service.models.selections import Selection
from service.models.templates import Template, View, joined, octets, selected
from service.operations import users
from service.operations.listing import MAX_OCTETS, Key, Page, Source


class Resolution(NamedTuple):
    template: Template
    is_selected: bool
    """Whether the user selected it; otherwise it is the default of the type."""


@transaction
def set(actor: Actor, *, user_id: str, template_type: str, template_id: str, view: View) -> Selection:
    """Make a template the user's selection for its type."""
    user, type_id = database.execute_prepared(
        "select (select id from users where id = %s), (select id from template_types where name = %s)",
        [user_id, template_type],
    ).fetchone()
    if user is None:
        raise errors.not_found("USER", id=user_id)
    if type_id is None:
        raise errors.not_found("TEMPLATE_TYPE", name=template_type)
    # Held, so that it is neither deleted nor moved to another type before it is selected.
    templates = Template.lock(Template.id == template_id, mode="FOR KEY SHARE")
    if not templates:
        raise errors.not_found("TEMPLATE", id=template_id)
    if templates[0].template_type_id != type_id:
        raise errors.FailedPrecondition(
            "TEMPLATE_TYPE_MISMATCH",
            "the template is of another type than the selection",
            {"template_type": template_type},
        )
    return _get(point(user_id, type_id, template_id), view)


@read
def get(actor: Actor, *, user_id: str, template_type: str, view: View) -> Selection:
    """Answer what a user selected for a type."""
    found = Selection.in_view(view, "where s.user_id = %s and tt.name = %s", [user_id, template_type])
    if not found:
        raise errors.not_found("SELECTION", user_id=user_id, template_type=template_type)
    return found[0]


@read
def page(actor: Actor, *, user_id: str, view: View, after: Key | None, size: int) -> Page[Selection]:
    """Answer the selections of a user, by the name of the type."""
    found = Source(
        keys=(
            "user_template_selections s join templates t on t.id = s.template_id"
            " join template_types owner on owner.id = s.template_type_id"
        ),
        id="s.id",
        order=("owner.name",),
        octets=f"500 + {octets(view)}",
        rows=f"user_template_selections s on s.id = page.id join ({joined(view)}) on t.id = s.template_id",
        select=f"{Selection.columns('s')}, {selected(view)}",
        of=lambda values: Selection.of_view(view, values),
        key=lambda selection: (selection.selected.type_name,),
    ).page(where=["s.user_id = %s"], parameters=[user_id], after=after, size=size)
    if not found.rows:
        users.get(actor, id=user_id)
    return found


@transaction
def delete(actor: Actor, *, user_id: str, template_type: str, etag: str) -> None:
    """Remove a user's selection for a type."""
    found = Selection.in_view(View.SUMMARY, "where s.user_id = %s and tt.name = %s", [user_id, template_type])
    for selection in Selection.lock(Selection.id == found[0].id, mode="FOR UPDATE") if found else ():
        selection.require_etag(etag)
        selection.delete_instance()
        return
    raise errors.not_found("SELECTION", user_id=user_id, template_type=template_type)


@read
def resolve(actor: Actor, *, user_id: str, template_type: str, view: View) -> Resolution:
    """Answer the user's selection for the type, else the type's default."""
    (outcome,) = _resolve(user_id, [template_type], view, "0")
    if isinstance(outcome, errors.Error):
        raise outcome
    return outcome


@read
def batch_resolve(
    actor: Actor, *, user_id: str, template_types: Sequence[str], view: View
) -> list[Resolution | errors.Error]:
    """Resolve each type for a user: a resolution, or the error that `resolve` would raise."""
    return list(_resolve(user_id, template_types, view, f"sum({octets(view)}) over (order by ask.n)"))


def point(user_id: str, type_id: str, template_id: str) -> str:
    """Make the user's selection for the type the template, which is of that type; answer the selection's id."""
    (id,) = database.execute_sql(
        """
        insert into user_template_selections as s (id, user_id, template_type_id, template_id)
        values (%s, %s, %s, %s)
        on conflict on constraint user_template_selections_one_for_each_user_and_type do update set
          template_id = excluded.template_id,
          version = s.version + (s.template_id <> excluded.template_id)::integer,
          update_time = case
            when s.template_id <> excluded.template_id then greatest(clock_timestamp(), s.update_time)
            else s.update_time
          end
        returning s.id
        """,
        [new_id(), user_id, type_id, template_id],
    ).fetchone()
    return str(id)


def too_large(fitting: int) -> errors.ResourceExhausted:
    """Say that the answer of a batch would be too large, and how many of its first items would fit."""
    return errors.ResourceExhausted(
        "RESPONSE_TOO_LARGE", f"the answer would be larger than {MAX_OCTETS} bytes", {"fitting": str(fitting)}
    )


def _get(id: str, view: View) -> Selection:
    return Selection.in_view(view, "where s.id = %s", [id])[0]


def _resolve(user_id: str, names: Sequence[str], view: View, total: str) -> Iterator[Resolution | errors.Error]:
    """Answer an outcome for each type, in one query, where `total` measures the answer so far; what fits is read."""
    found = database.execute_prepared(
        f"""
        select caller.id is not null, {total}, asked.id is not null, picked.id is not null,
          {selected(view, if_=f"{total} <= {MAX_OCTETS}")}
        from unnest(%s::text[]) with ordinality ask (name, n)
        left join users caller on caller.id = %s
        left join template_types asked on asked.name = ask.name
        left join user_template_selections picked on picked.user_id = caller.id and picked.template_type_id = asked.id
        left join templates fallback on fallback.template_type_id = asked.id and fallback.is_default
        left join ({joined(view)}) on t.id = coalesce(picked.template_id, fallback.id)
        order by ask.n
        """,
        [list(names), user_id],
    ).fetchall()
    if not found[0][0]:
        raise errors.not_found("USER", id=user_id)
    fitting = sum(size is None or size <= MAX_OCTETS for _, size, *_ in found)
    if fitting < len(found):
        raise too_large(fitting)
    for name, (_, _, is_known, is_selected, *values) in zip(names, found, strict=True):
        if not is_known:
            yield errors.not_found("TEMPLATE_TYPE", name=name)
        elif values[0] is None:
            yield errors.NotFound(
                "NO_TEMPLATE_RESOLVED",
                "the user has selected no template of the type, and the type has no default",
                {"user_id": user_id, "template_type": name},
            )
        else:
            yield Resolution(Template.of_view(view, values), is_selected)
