"""Which revisions of a template a call may name."""

from collections.abc import Sequence

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.models.templates import Template
from service.operations import quotas


def require_of_type(template: Template, revision: int) -> None:
    """Raise unless the template has the revision, and was of the type then that it is of now."""
    if revision == template.revision:
        return
    found = database.execute_sql(
        "select says ->> 'template_type_id' from template_revisions where template_id = %s and revision = %s",
        [template.id, revision],
    ).fetchone()
    if found is None:
        raise not_found(template.id, revision)
    if found[0] != template.template_type_id:
        raise errors.FailedPrecondition(
            "TEMPLATE_TYPE_MISMATCH", "the template was of another type in this revision", {"revision": str(revision)}
        )


def require_room(actor: Actor, template: Template) -> None:
    """Raise unless the template may have one more revision."""
    if quotas.bind(actor) and template.revision >= quotas.limit("revisions"):
        raise quotas.exceeded("revisions", template.revision)


def not_found(template_id: str, revision: int) -> errors.NotFound:
    return errors.not_found("TEMPLATE_REVISION", id=template_id, revision=str(revision))


def unlabeled(template_id: str, labels: Sequence[str]) -> errors.NotFound:
    """Return the error for a template that has none of the labels."""
    return errors.NotFound(
        "LABEL_NOT_FOUND", "the template has none of the labels", {"id": template_id, "labels": ",".join(labels)}
    )
