"""What was deleted, brought back from the log of changes with its id."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, refused_by, transaction
from service.models.openai_models import OpenAIModel
from service.models.organizations import Member, Organization
from service.models.revisions import TEXTS
from service.models.row import Versioned
from service.models.template_types import TemplateTool, TemplateType
from service.models.templates import Template, View
from service.operations import organizations, protected_labels, quotas, rights, templates, users

KINDS: Mapping[str, type[Versioned]] = {
    "model": OpenAIModel,
    "organization": Organization,
    "template": Template,
    "template_type": TemplateType,
}
"""What can be brought back, by its kind in the log."""

_PARTS: Mapping[str, tuple[str, type[Versioned], str]] = {
    "organization": ("member", Member, "organization_id"),
    "template_type": ("template_tool", TemplateTool, "template_type_id"),
}
"""What goes and comes with it: its kind, and the column that names the whole."""


class Deletion(NamedTuple):
    """What the log says of the deletion of a resource."""

    kind: str
    id: str
    transaction_id: str
    epoch: str
    before: dict[str, Any]
    """The columns that it had."""


@read
def find(actor: Actor, id: str) -> Deletion | None:
    """Return the last deletion of a resource, of one of KINDS, or None where the log has none."""
    rights.administer(actor)
    return _last(id, *KINDS)


@transaction
def template(actor: Actor, id: str, *, view: View) -> Template:
    """Bring back a template with its revisions and labels; as the default only where there is none by now."""
    existing = Template.fetch_one("where t.id = %s", [id])
    if existing is not None:
        rights.read_template(actor, id, existing.organization_id)
        raise _not_deleted(id)
    deletion = _last(id, "template")
    if deletion is None:
        raise errors.not_found("TEMPLATE", id=id)
    before = deletion.before
    user_id, organization_id = before["user_id"], before["organization_id"]
    rights.write_template(actor, id, user_id, organization_id)
    if before["is_default"] or protected_labels.are_in(before["labels"]):
        rights.write_default(actor, organization_id)
    users.hold(user_id, mode=quotas.owner_lock(actor))
    if organization_id is not None:
        organizations.hold(organization_id)
        organizations.require_open(organization_id)
    quotas.require_room(actor, "templates", user_id)
    says = _says(id, before["revision"])
    owner = TemplateType.lock_one(TemplateType.id == before["template_type_id"])
    if owner is None:
        raise errors.not_found("TEMPLATE_TYPE", name=says["template_type"])
    if OpenAIModel.lock_one(OpenAIModel.id == before["model_id"], mode="FOR KEY SHARE") is None:
        raise errors.not_found("MODEL", openai_id=says["model"])
    is_taken = Template.select().where(templates.default_of(owner, organization_id)).exists()
    # Somebody else may have brought it back meanwhile.
    with refused_by("templates_pkey", lambda: _not_deleted(id)):
        # What both have is the same, but that the log has no texts.
        Template.bring_back(before | says | {"is_default": before["is_default"] and not is_taken})
    return templates.get(actor, id, view=view)


@transaction
def resource(actor: Actor, deletion: Deletion) -> None:
    """Bring back what is no template, with its parts."""
    rights.administer(actor)
    KINDS[deletion.kind].bring_back(deletion.before)
    if deletion.kind not in _PARTS:
        return
    kind, row, column = _PARTS[deletion.kind]
    parts = database.execute_sql(
        f"select before from changes where epoch = %s and transaction_id = %s::xid8 and kind = %s and action = 'delete'"
        f" and before ->> '{column}' = %s order by seq",
        [deletion.epoch, deletion.transaction_id, kind, deletion.id],
    ).fetchall()
    for (before,) in parts:
        row.bring_back(before)


def _not_deleted(id: str) -> errors.AlreadyExists:
    return errors.AlreadyExists("TEMPLATE_ALREADY_EXISTS", "the template is not deleted", {"id": id})


def _last(id: str, *kinds: str) -> Deletion | None:
    found = database.execute_sql(
        "select kind, resource_id, transaction_id::text, epoch::text, before from changes"
        " where resource_id = %s and action = 'delete' and kind = any(%s) order by time desc, seq desc limit 1",
        [id, list(kinds)],
    ).fetchone()
    return None if found is None else Deletion._make(found)


def _says(id: str, revision: int) -> dict[str, Any]:
    """Return what the template said in its last revision."""
    texts = ", ".join(
        f"'{name}', (select content from revision_texts where owner_id = template_id and digest = {name}_digest)"
        for name in sorted(TEXTS)
    )
    ((says,),) = database.execute_sql(
        f"select says || jsonb_build_object({texts}) from template_revisions where template_id = %s and revision = %s",
        [id, revision],
    ).fetchall()
    return dict(says)
