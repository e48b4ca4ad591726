"""Which template a user works with, for each type."""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from service import cache, errors, tags
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.revisions import BY_LABELS, revised
from service.models.row import new_id, split
from service.models.selections import Selection
from service.models.templates import Template, View, joined, message_size, selected
from service.operations import organizations, revisions, rights, users
from service.operations.listing import MAX_BYTES, Key, Page, Source


class Reason(Enum):
    """Why a template holds for a user and a type, in order of precedence."""

    ORGANIZATION_SELECTED = "the user selected it in the organization"
    SELECTED = "the user selected it platform-wide"
    ORGANIZATION_DEFAULT = "it is the default of the organization"
    DEFAULT = "it is the default of the platform"


class _Outcome(NamedTuple):
    """What is read for each type that is asked for, before the template itself."""

    is_user: bool
    is_member: bool
    size: int | None
    """Of the response up to here, in bytes."""
    is_type: bool
    place: int | None
    """Which of the places has a template; None where none has."""
    pinned: int | None
    """The revision that the user selected."""


class Resolution(NamedTuple):
    template: Template
    reason: Reason


@transaction
def set(
    actor: Actor,
    *,
    user_id: str,
    organization_id: str | None = None,
    template_type: str,
    template_id: str,
    revision: int = 0,
    view: View,
) -> Selection:
    """Make a template the user's selection for its type, in the organization or platform-wide.

    The user is the caller for an empty `user_id`. A `revision` of 0 follows the template.
    """
    user_id = rights.user(actor, user_id)
    user, type_id = database.execute_prepared(
        "select (select id from users where id = %s), (select id from template_types where name = %s)",
        [user_id, template_type],
    ).fetchone()
    if user is None:
        raise errors.not_found("USER", id=user_id)
    if organization_id is not None:
        organizations.hold(organization_id)
    rights.write_own(actor, organization_id)
    if type_id is None:
        raise errors.not_found("TEMPLATE_TYPE", name=template_type)
    # Held, so that it is neither deleted nor moved to another type before it is selected.
    template = Template.lock_one(Template.id == template_id, mode="FOR KEY SHARE")
    if template is None:
        raise errors.not_found("TEMPLATE", id=template_id)
    rights.read_template(actor, template_id, template.organization_id)
    if template.template_type_id != type_id:
        raise errors.FailedPrecondition(
            "TEMPLATE_TYPE_MISMATCH",
            "the template is of another type than the selection",
            {"template_type": template_type},
        )
    if template.organization_id not in {None, organization_id}:
        raise errors.FailedPrecondition(
            "TEMPLATE_ORGANIZATION_MISMATCH",
            "the template belongs to another organization than the selection",
            {"organization_id": organization_id or ""},
        )
    if revision:
        revisions.require_of_type(template, revision)
    return _get(point(user_id, template, organization_id, revision or None), view)


@read
def get(actor: Actor, *, user_id: str, organization_id: str | None = None, template_type: str, view: View) -> Selection:
    """Return what a user selected for a type."""
    user_id = rights.user(actor, user_id)
    if organization_id is not None:
        organizations.get(actor, organization_id)
    return _selected(user_id, organization_id, template_type, view)


@read
def page(
    actor: Actor, *, user_id: str, organization_id: str | None = None, view: View, after: Key | None, size: int
) -> Page[Selection]:
    """Return the selections of a user, by the name of the type, platform-wide ones first."""
    user_id = rights.user(actor, user_id)
    where, parameters = ["s.user_id = %s"], [user_id]
    if organization_id is not None:
        organizations.get(actor, organization_id)
        where.append("s.scope = %s")
        parameters.append(organization_id)
    elif actor.organization_id is not None:
        where.append("s.scope in ('', %s)")
        parameters.append(actor.organization_id)
    found = Source(
        keys=f"{Selection.tables(View.SUMMARY)} join template_types owner on owner.id = s.template_type_id",
        id="s.id",
        order=("owner.name", "s.scope"),
        message_size=f"{Selection.message_size('s')} + {message_size(view)}",
        rows=Selection.tables(view, on="on s.id = page.id"),
        select=f"{Selection.columns('s')}, {selected(view, is_revised=True)}",
        of=lambda values: Selection.of_view(view, values),
        key=lambda selection: (selection.selected.type_name, selection.scope),
    ).page(where=where, parameters=parameters, after=after, size=size)
    if not found.rows:
        users.get(actor, id=user_id)
    return found


@transaction
def delete(actor: Actor, *, user_id: str, organization_id: str | None = None, template_type: str, etag: str) -> None:
    """Remove a user's selection for a type."""
    user_id = rights.user(actor, user_id)
    if organization_id is not None:
        organizations.hold(organization_id)
    rights.write_own(actor, organization_id)
    found = _selected(user_id, organization_id, template_type, View.SUMMARY)
    selection = Selection.lock_one(Selection.id == found.id, mode="FOR UPDATE")
    if selection is None:
        raise _unselected(user_id, organization_id, template_type)
    selection.require_etag(etag)
    selection.delete_instance()


@read
def resolve(
    actor: Actor,
    *,
    user_id: str,
    organization_id: str | None = None,
    template_type: str,
    view: View,
    labels: Sequence[str] = (),
) -> Resolution:
    """Return the template that holds for a user and a type, by the first Reason that there is.

    It is in the revision that the user selected, or else in that of the first of the labels which it has.
    """
    (outcome,) = _resolve(actor, user_id, organization_id, [template_type], view=view, labels=labels, total="0")
    if isinstance(outcome, errors.Error):
        raise outcome
    return outcome


@read
def batch_resolve(
    actor: Actor,
    *,
    user_id: str,
    organization_id: str | None = None,
    template_types: Sequence[str],
    view: View,
    labels: Sequence[str] = (),
) -> list[Resolution | errors.Error]:
    """Resolve each type for a user: a resolution, or the error that `resolve` would raise."""
    total = f"sum({message_size(view)}) over (order by ask.n)"
    return list(_resolve(actor, user_id, organization_id, template_types, view=view, labels=labels, total=total))


def point(user_id: str, template: Template, organization_id: str | None, revision: int | None = None) -> str:
    """Make the template the user's selection for its type in the organization, or platform-wide; return the id."""
    if organization_id is not None:
        organizations.hold_member(organization_id, user_id)
    differs = "(s.template_id, s.revision) is distinct from (excluded.template_id, excluded.revision)"
    (id,) = database.execute_sql(
        f"""
        insert into user_template_selections as s
          (id, user_id, organization_id, template_type_id, template_id, template_scope, revision)
        values (%s, %s, %s, %s, %s, %s, %s)
        on conflict on constraint user_template_selections_one_for_each_user_scope_and_type do update set
          template_id = excluded.template_id,
          template_scope = excluded.template_scope,
          revision = excluded.revision,
          version = s.version + ({differs})::integer,
          update_time = case when {differs} then greatest(clock_timestamp(), s.update_time) else s.update_time end
        returning s.id
        """,
        [new_id(), user_id, organization_id, template.template_type_id, template.id, template.scope, revision],
    ).fetchone()
    return str(id)


def too_large(fitting: int) -> errors.ResourceExhausted:
    """Return the error for a batch whose response would be too large, with how many of its first items would fit."""
    return errors.ResourceExhausted(
        "RESPONSE_TOO_LARGE", f"the response would be larger than {MAX_BYTES} bytes", {"fitting": str(fitting)}
    )


def _get(id: str, view: View) -> Selection:
    return Selection.in_view(view, "where s.id = %s", [id])[0]


def _selected(user_id: str, organization_id: str | None, template_type: str, view: View) -> Selection:
    found = Selection.in_view(
        view,
        "where s.user_id = %s and s.scope = %s and tt.name = %s",
        [user_id, organization_id or "", template_type],
    )
    if not found:
        raise _unselected(user_id, organization_id, template_type)
    return found[0]


def _unselected(user_id: str, organization_id: str | None, template_type: str) -> errors.NotFound:
    place = {} if organization_id is None else {"organization_id": organization_id}
    return errors.not_found("SELECTION", user_id=user_id, template_type=template_type, **place)


def _resolve(
    actor: Actor,
    user_id: str,
    organization_id: str | None,
    names: Sequence[str],
    *,
    view: View,
    labels: Sequence[str],
    total: str,
) -> Iterator[Resolution | errors.Error]:
    """Return an outcome for each type. `total` sizes the response so far; only what fits is read."""
    user_id = rights.user(actor, user_id)
    asked: list[object] = [list(names), user_id, organization_id]
    if labels:
        outcomes = _outcomes(_BY_LABELS, view, total, [*asked, list(labels)])
    else:
        outcomes = _outcomes(None, view, total, asked)
        # Few users stay on a revision, and reading any other than the latest costs all.
        if any(outcome.pinned for outcome, _ in outcomes):
            outcomes = _outcomes(_PINNED, view, total, asked)
    first, _ = outcomes[0]
    if not first.is_user:
        raise errors.not_found("USER", id=user_id)
    if organization_id is not None and not (first.is_member and rights.reaches(actor, organization_id)):
        raise errors.not_found("ORGANIZATION", id=organization_id)
    fitting = sum(outcome.size is None or outcome.size <= MAX_BYTES for outcome, _ in outcomes)
    if fitting < len(outcomes):
        raise too_large(fitting)
    cache.saw(tags.user(user_id))
    for name, (outcome, values) in zip(names, outcomes, strict=True):
        if not outcome.is_type:
            yield errors.not_found("TEMPLATE_TYPE", name=name)
        elif outcome.place is None:
            yield errors.NotFound(
                "NO_TEMPLATE_RESOLVED",
                "the user has selected no template of the type, and the type has no default",
                {"user_id": user_id, "template_type": name},
            )
        else:
            template = Template.of_view(view, values)
            cache.saw(tags.default(template.template_type_id))
            resolution = tags.resolution(user_id, organization_id, template.template_type_id)
            cache.saw(resolution, template.id)
            if template.revision is None:
                yield revisions.unlabeled(template.id, labels)
            else:
                yield Resolution(template, _REASONS[outcome.place])


# In order of precedence, as in Reason. An empty scope is the platform's.
_PLACES = ("own.template_id", "picked.template_id", "house.id", "fallback.id")
_ID = f"coalesce({', '.join(_PLACES)})"
_PIN = "case when own.template_id is null then picked.revision else own.revision end"
_PINNED = revised(f"(select coalesce({_PIN}, base.revision), '')", where=f"base.id = {_ID}")
_BY_LABELS = revised(
    f"""(
        select {_PIN}, '' where {_PIN} is not null
        union all (select revision, label from {BY_LABELS} labeled (revision, label)) limit 1
    )""",
    where=f"base.id = {_ID}",
)
_REASONS = tuple(Reason)


def _outcomes(
    templates: str | None, view: View, total: str, parameters: Sequence[object]
) -> list[tuple[_Outcome, Sequence[Any]]]:
    """Return what holds for each type, with the template's columns: the latest, or as `templates` has it."""
    found = database.execute_prepared(_holding(templates, view, total), parameters).fetchall()
    return [split(_Outcome, values) for values in found]


def _holding(templates: str | None, view: View, total: str) -> str:
    return f"""
        select caller.id is not null, place.organization_id is not null, {total}, asked.id is not null,
          case {" ".join(f"when {id} is not null then {n}" for n, id in enumerate(_PLACES))} end, {_PIN},
          {selected(view, if_=f"{total} <= {MAX_BYTES}", is_revised=templates is not None)}
        from unnest(%s::text[]) with ordinality ask (name, n)
        left join users caller on caller.id = %s
        left join organization_members place on place.organization_id = %s and place.user_id = caller.id
        left join template_types asked on asked.name = ask.name
        left join user_template_selections own on own.user_id = caller.id and own.scope = place.organization_id
          and own.template_type_id = asked.id
        left join user_template_selections picked on picked.user_id = caller.id and picked.scope = ''
          and picked.template_type_id = asked.id
        left join templates house on house.scope = place.organization_id and house.template_type_id = asked.id
          and house.is_default
        left join templates fallback on fallback.scope = '' and fallback.template_type_id = asked.id
          and fallback.is_default
        left join ({joined(view, templates)}) on {"true" if templates else f"t.id = {_ID}"}
        order by ask.n
    """
