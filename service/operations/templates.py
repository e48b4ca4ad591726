"""The templates: what a model is told to do."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, refused_by, transaction
from service.models.revisions import BY_LABELS, BY_NUMBER, UNREVISED, revised
from service.models.row import split
from service.models.selections import Selection
from service.models.template_types import TemplateType
from service.models.templates import Template, View, joined, message_size, selected
from service.operations import (
    json_schema,
    openai_models,
    organizations,
    protected_labels,
    quotas,
    revisions,
    rights,
    selections,
    template_types,
    template_variables,
    users,
)
from service.operations.listing import MAX_BYTES

_MAX_NAMED = 20
_MAX_NAMED_BYTES = 2000


class _Asked(NamedTuple):
    """What is read for each id that is asked for, before the template itself."""

    size: int
    """Of the response up to here, in bytes."""
    is_template: bool
    organization_id: str | None


@transaction
def create(
    actor: Actor,
    values: Mapping[str, Any],
    *,
    user_id: str = "",
    organization_id: str | None = None,
    select: bool,
    view: View,
) -> Template:
    """Add a template of the user, or of the caller for an empty one.

    Make it the default of its type, or its author's selection, where asked.
    """
    _check_format(values.get("response_format"))
    template_variables.check(values.get("variables", ()), values["instructions"])
    user_id = rights.user(actor, user_id, "template.user_id")
    is_default = values.get("is_default", False)
    users.hold(user_id, mode=quotas.owner_lock(actor))
    if organization_id is not None:
        organizations.hold(organization_id)
    rights.create_template(actor, organization_id)
    _require_open(organization_id)
    quotas.require_room(actor, "templates", user_id)
    if is_default:
        rights.write_default(actor, organization_id)
    owner = template_types.hold(values["template_type"], mode="FOR NO KEY UPDATE" if is_default else "FOR KEY SHARE")
    model = openai_models.hold(values["model"])
    if is_default:
        _clear_default(Template.lock(default_of(owner, organization_id)))
    template = Template.add(
        **{
            **values,
            "template_type": owner.id,
            "model": model.id,
            "user": user_id,
            "organization": organization_id,
        }
    )
    if select:
        selections.point(user_id, template, organization_id)
    return _get(template.id, view)


@read
def get(actor: Actor, id: str, *, view: View, labels: Sequence[str] = (), revision: int = 0) -> Template:
    """Return one template: its latest revision, that of the first label which it has, or that of a number."""
    if revision:
        template = _get(id, view, revised(BY_NUMBER), revision)
    else:
        template = _get(id, view, revised(BY_LABELS), list(labels)) if labels else _get(id, view)
    rights.read_template(actor, id, template.organization_id)
    if template.revision is None:
        raise revisions.unlabeled(id, labels) if labels else revisions.not_found(id, revision)
    return template


@read
def batch_get(actor: Actor, ids: Sequence[str], *, view: View, labels: Sequence[str] = ()) -> list[Template]:
    """Return a template for each id, in their order, or raise for all of them."""
    templates, wanted = (revised(BY_LABELS), [list(labels)]) if labels else (None, [])
    # Only what fits is read, however large the rest is.
    total = f"sum({message_size(view)}) over (order by ask.n)"
    found = database.execute_prepared(
        f"""
        select {total}, t.id is not null, t.organization_id,
          {selected(view, if_=f"{total} <= {MAX_BYTES}", is_revised=bool(labels))}
        from unnest(%s::text[]) with ordinality ask (id, n) left join ({joined(view, templates)}) on t.id = ask.id
        order by ask.n
        """,
        [list(ids), *wanted],
    ).fetchall()
    rows = [split(_Asked, values) for values in found]
    may = rights.readable(actor, {asked.organization_id for asked, _ in rows})
    missing = [
        id
        for id, (asked, _) in zip(ids, rows, strict=True)
        if not asked.is_template or asked.organization_id not in may
    ]
    if missing:
        bytes_so_far = itertools.accumulate(len(id.encode()) + 1 for id in missing)
        named = [id for id, total in zip(missing, bytes_so_far, strict=True) if total <= _MAX_NAMED_BYTES]
        raise errors.NotFound(
            "TEMPLATE_NOT_FOUND", f"{len(missing)} of the templates do not exist", {"ids": ",".join(named[:_MAX_NAMED])}
        )
    found_templates = [Template.of_view(view, values) for _, values in rows]
    for template in found_templates:
        if template.revision is None:
            raise revisions.unlabeled(template.id, labels)
    fitting = sum(asked.size <= MAX_BYTES for asked, _ in rows)
    if fitting < len(rows):
        raise selections.too_large(fitting)
    return found_templates


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, Any], *, etag: str, view: View) -> Template:
    """Write `changes`, unless `etag` is given and no longer current."""
    values = dict(changes)
    wants_default = values.get("is_default", False)
    before = found(id)
    rights.write_template(actor, id, before.user_id, before.organization_id)
    _require_open(before.organization_id)
    owner = None
    if wants_default or "template_type" in values:
        owner = _lock_types(id, values.get("template_type"))
    if "model" in values:
        values["model"] = openai_models.hold(values["model"]).id
    # The template, and the default that it replaces, in the order of their ids.
    rows = Template.lock(
        (Template.id == id) | default_of(owner, before.organization_id)
        if owner is not None and wants_default
        else Template.id == id
    )
    template = next((row for row in rows if row.id == id), None)
    if template is None:
        raise errors.not_found("TEMPLATE", id=id)
    template.require_etag(etag)
    if values.get("response_format") != template.response_format:
        _check_format(values.get("response_format"))
    if not values.keys().isdisjoint({"variables", "instructions"}):
        merged = (values.get(name, getattr(template, name)) for name in ("variables", "instructions"))
        template_variables.check(*merged)
    if owner is not None and "template_type" in values:
        values["template_type"] = owner.id
        if template.template_type_id != owner.id and not wants_default:
            values["is_default"] = False
    if values.get("is_default", template.is_default) != template.is_default:
        rights.write_default(actor, template.organization_id)
    if wants_default:
        _clear_default([row for row in rows if row.id != id])
    _change(actor, template, values)
    return _get(id, view)


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Delete a template and all selections of it."""
    before = found(id)
    rights.write_template(actor, id, before.user_id, before.organization_id)
    _require_open(before.organization_id)
    template = Template.lock_one(Template.id == id, mode="FOR UPDATE")
    if template is None:
        raise errors.not_found("TEMPLATE", id=id)
    template.require_etag(etag)
    if template.is_default or protected_labels.are_in(template.labels):
        rights.write_default(actor, template.organization_id)
    template.delete_instance()


def _check_format(schema: str | None) -> None:
    if schema is not None and (problem := json_schema.problem(schema)):
        raise errors.field_invalid(("template.response_format", problem))


def _require_open(organization_id: str | None) -> None:
    if organization_id is not None:
        organizations.require_open(organization_id)


def found(id: str) -> Template:
    """Return the row alone, which is no part of a response: the cache is told of nothing."""
    template = Template.fetch_one("where t.id = %s", [id])
    if template is None:
        raise errors.not_found("TEMPLATE", id=id)
    return template


def default_of(owner: TemplateType, organization_id: str | None) -> Any:
    """Return the condition for the default of a type, of the platform or of an organization."""
    return (Template.scope == (organization_id or "")) & (Template.template_type == owner.id) & Template.is_default


def _get(id: str, view: View, templates: str | None = None, *parameters: object) -> Template:
    """Return the template as a response shows it; the cache is told of all that the view has."""
    rows = Template.in_view(view, "where t.id = %s", [*parameters, id], revised=templates)
    if not rows:
        raise errors.not_found("TEMPLATE", id=id)
    return rows[0]


def _lock_types(id: str, name: str | None) -> TemplateType:
    """Lock the template's type, and the type of that name that it is to have, by id; return the one it will have."""
    current = found(id).template_type_id
    is_target = TemplateType.name == name if name is not None else TemplateType.id == current
    locked = TemplateType.lock((TemplateType.id == current) | is_target)
    # It may have moved while this waited.
    if found(id).template_type_id != current:
        raise errors.Aborted("CONFLICT", "another call moved the template to another type; nothing was written")
    for template_type in locked:
        if template_type.name == name or (name is None and template_type.id == current):
            return template_type
    raise errors.not_found("TEMPLATE_TYPE", name=name or "")


def _clear_default(templates: Sequence[Template]) -> None:
    """Unmake defaults. The templates are locked, and so is their type."""
    for template in templates:
        template.touch(is_default=False)


def _change(actor: Actor, template: Template, values: Mapping[str, Any]) -> None:
    if any(name not in UNREVISED and getattr(template, name) != value for name, value in values.items()):
        revisions.require_room(actor, template)
    if values.get("template_type", template.template_type_id) == template.template_type_id:
        template.change(**values)
        return
    if template.labels:
        raise errors.FailedPrecondition(
            "TEMPLATE_LABELED",
            "the template has labels, so its type cannot change",
            {"labels": str(len(template.labels))},
        )
    with refused_by(
        "user_template_selections_are_of_a_template_of_their_type",
        lambda: errors.FailedPrecondition(
            "TEMPLATE_SELECTED",
            "users have selected the template, so its type cannot change",
            {"selections": str(_count_selections(actor, template))},
        ),
    ):
        template.change(**values)


def _count_selections(actor: Actor, template: Template) -> int:
    """Count those that the actor may know of."""
    condition = Selection.template == template.id
    if not rights.counts_selections(actor, template.organization_id):
        condition &= Selection.user == actor.user_id
    return int(Selection.select().where(condition).count())
