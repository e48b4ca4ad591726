"""One assistant brought in step with its template: created, updated, adopted or deleted."""

from service import errors
from service.actor import SYSTEM
from service.models.row import new_id
from service.openai_assistants import Assistants, GoneError, Listed, Missing
from service.openai_gateway import OutcomeUnknownError
from service.operations import assistants as operations
from service.operations.assistants import Held, Wanted
from service.rendering.assistants import joined

SYSTEM_NAME = "omniflo-templates"
"""In the metadata of what is ours."""
SKEW_SECONDS = 600.0
"""By how much the server's clock may differ."""


def metadata_of(epoch: str, template_id: str, attempt_id: str) -> dict[str, str]:
    """Return what an assistant of ours is known by."""
    return {"system": SYSTEM_NAME, "epoch": epoch, "template_id": template_id, "attempt_id": attempt_id}


def is_of(listed: Listed, epoch: str, template_id: str | None = None) -> bool:
    """Return whether an assistant is of this registry, and of a template if one is given."""
    has = listed.metadata
    ours = has.get("system") == SYSTEM_NAME and has.get("epoch") == epoch and bool(has.get("attempt_id"))
    return ours and (bool(has.get("template_id")) if template_id is None else has.get("template_id") == template_id)


class Copier:
    """Does what is to be done of a copy that a worker has taken."""

    def __init__(self, assistants: Assistants, *, settle_seconds: float) -> None:
        self._assistants, self._settle_seconds = assistants, settle_seconds

    def bring_in_step(self, held: Held) -> None:
        """Write what the assistant of a template should say, or delete it; or put it off until an attempt has settled.

        OutcomeUnknownError where an attempt may have made one, GoneError where the server has none at all, else an
        `errors.Error` of the server's.
        """
        wanted = operations.wanted(SYSTEM, held.template_id)
        if wanted is None:
            self._remove(held)
        elif held.assistant_id is not None:
            self._update(held, held.assistant_id, held.attempt_id or new_id(), wanted)
        elif held.attempt_id is not None:
            self._settle(held, wanted)
        elif not self._adopt_known(held, wanted):
            self._create(held, wanted)

    def _create(self, held: Held, wanted: Wanted) -> None:
        attempt_id = new_id()
        # Should nobody learn of what is created, it is found by this.
        if not operations.mark(SYSTEM, held, attempt_id):
            return
        metadata = metadata_of(held.epoch, held.template_id, attempt_id)
        try:
            made = self._assistants.create(joined(wanted.members, metadata, with_null=False))
        except (errors.FailedPrecondition, errors.ResourceExhausted, GoneError):
            operations.unmark(SYSTEM, held)
            raise
        except errors.Unavailable as error:
            # Some servers fail after they have done it.
            raise OutcomeUnknownError(error.retry_seconds) from None
        if operations.adopt(SYSTEM, held, made, attempt_id):
            operations.wrote(SYSTEM, held, wanted.digest)

    def _update(self, held: Held, assistant_id: str, attempt_id: str, wanted: Wanted) -> None:
        metadata = metadata_of(held.epoch, held.template_id, attempt_id)
        try:
            self._assistants.update(assistant_id, joined(wanted.members, metadata, with_null=True))
        except Missing:
            # Somebody has deleted it.
            operations.removed(SYSTEM, held)
        else:
            operations.wrote(SYSTEM, held, wanted.digest)

    def _adopt_known(self, held: Held, wanted: Wanted) -> bool:
        """Adopt the assistant that the template came with; False if there is none, or if it is another's."""
        if wanted.known_id is None:
            return False
        try:
            found = self._assistants.get(wanted.known_id)
        except Missing:
            return False
        if found.metadata.get("system") == SYSTEM_NAME and not is_of(found, held.epoch, held.template_id):
            return False
        return self._adopt(held, found.id, new_id(), wanted)

    def _adopt(self, held: Held, assistant_id: str, attempt_id: str, wanted: Wanted) -> bool:
        try:
            if not operations.adopt(SYSTEM, held, assistant_id, attempt_id):
                return False
        except errors.Aborted:
            return False
        self._update(held, assistant_id, attempt_id, wanted)
        return True

    def _settle(self, held: Held, wanted: Wanted) -> None:
        """Find out whether an attempt has made an assistant; before it is settled, that may not be listed yet."""
        if held.attempt_seconds < self._settle_seconds:
            self._wait(held)
            return
        for found in self._made_by(held):
            if self._adopt(held, found.id, str(found.metadata["attempt_id"]), wanted):
                return
        operations.unmark(SYSTEM, held)
        self._create(held._replace(attempt_id=None), wanted)

    def _made_by(self, held: Held) -> list[Listed]:
        """Return the assistants that attempts for this template have made, that of the last attempt first."""
        found = []
        for listed in self._assistants.newest():
            if listed.created_at < held.attempted_at - SKEW_SECONDS:
                break
            if is_of(listed, held.epoch, held.template_id):
                found.append(listed)
        return sorted(found, key=lambda listed: listed.metadata["attempt_id"] != held.attempt_id)

    def _remove(self, held: Held) -> None:
        """Delete what was made for a template that is gone, or that can have no copy."""
        if held.assistant_id is not None:
            ids = [held.assistant_id]
        elif held.attempt_id is None:
            ids = []
        elif held.attempt_seconds < self._settle_seconds:
            self._wait(held)
            return
        else:
            ids = [found.id for found in self._made_by(held)]
        for id in ids:
            try:
                self._assistants.delete(id)
            except Missing:
                continue
        operations.removed(SYSTEM, held)

    def _wait(self, held: Held) -> None:
        operations.put_off(SYSTEM, held, self._settle_seconds - held.attempt_seconds, "OPENAI_OUTCOME_UNKNOWN")
