"""Names on the revisions of templates, which callers ask for instead of the latest."""

from service import errors
from service.actor import Actor
from service.database.transactions import transaction
from service.models.templates import Template
from service.operations import organizations, revisions, rights, templates

MAX_LABELS = 32


@transaction
def set(actor: Actor, template_id: str, *, label: str, revision: int, expected_revision: int | None) -> None:
    """Put a label on a revision. Where `expected_revision` is given, it must be there now; at 0, nowhere."""
    template = _locked(actor, template_id, label)
    current = template.labels.get(label, 0)
    if expected_revision not in {None, current}:
        raise errors.Aborted(
            "LABEL_MOVED",
            "the label is on another revision than the call expects",
            {"label": label, "revision": str(current)},
        )
    revisions.require_of_type(template, revision)
    if not current and len(template.labels) >= MAX_LABELS:
        raise errors.FailedPrecondition(
            "TEMPLATE_LABELS_FULL", f"the template may have at most {MAX_LABELS} labels", {"limit": str(MAX_LABELS)}
        )
    template.change(labels={**template.labels, label: revision})


@transaction
def delete(actor: Actor, template_id: str, *, label: str, etag: str) -> None:
    """Take a label away."""
    template = _locked(actor, template_id, label)
    template.require_etag(etag)
    if label not in template.labels:
        raise revisions.unlabeled(template_id, [label])
    template.change(labels={other: revision for other, revision in template.labels.items() if other != label})


def _locked(actor: Actor, template_id: str, label: str) -> Template:
    """Return the template for a change of the label."""
    before = templates.found(template_id)
    rights.write_label(actor, template_id, before.user_id, before.organization_id, label)
    if before.organization_id is not None:
        organizations.require_open(before.organization_id)
    template = Template.lock_one(Template.id == template_id)
    if template is None:
        raise errors.not_found("TEMPLATE", id=template_id)
    return template
