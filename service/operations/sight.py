"""Which changes an actor may see, and for which of them it may read the audit: who did it, and the values."""

from collections.abc import Mapping
from typing import NamedTuple

from service.actor import Actor
from service.database.changes import Change
from service.database.handle import database
from service.database.transactions import read
from service.models import api_keys
from service.positions import Snapshot
from service.tags import EVERYTHING

_PLATFORM = frozenset({"template_type", "template_tool", "model"})
_PERSONAL = frozenset({"user", "selection", "api_key"})
_STAYING = frozenset({"template", "processing_record"})
"""What stays in its organization when its user leaves."""


class Sight(NamedTuple):
    """What an actor may see, as of a moment."""

    sees_all: bool
    audits_all: bool
    user_id: str | None
    organizations: Mapping[str, str]
    """The actor's role in each of its organizations that its credentials are valid in."""
    limit: str | None
    """The organization that its API key is limited to."""
    key_ids: frozenset[str]
    """The API key that it calls with, and those above that one."""
    moment: Snapshot

    @property
    def sees_everything(self) -> bool:
        """Whether no change is hidden from the actor, or changes what it sees."""
        return self.sees_all and self.user_id is None

    def sees(self, change: Change) -> bool:
        """Whether the actor may read what has changed."""
        if self.sees_all or change.kind in _PLATFORM or change.resource_id == EVERYTHING:
            return True
        if self._is_own(change):
            return True
        if change.organization_id is None:
            return change.kind == "template"
        if change.kind in {"invitation", "processing_record"}:
            return self.organizations.get(change.organization_id) == "admin"
        return change.kind not in _PERSONAL and change.organization_id in self.organizations

    def audits(self, change: Change) -> bool:
        """Whether the actor may read who did it, with which API key, and the values."""
        return (
            self.audits_all
            or self._is_own(change)
            or (change.organization_id is not None and self.organizations.get(change.organization_id) == "admin")
        )

    def is_outdated_by(self, change: Change) -> bool:
        """Whether the actor may see something else since the change."""
        if self.moment.sees(change.transaction_id):
            return False
        if change.resource_id == EVERYTHING:
            return change.kind in {"user", "member", "api_key"} and not self.sees_all
        if change.kind == "api_key":
            return change.resource_id in self.key_ids
        return change.kind in {"user", "member"} and self.user_id is not None and change.user_id == self.user_id

    def _is_own(self, change: Change) -> bool:
        if self.user_id is None or change.user_id != self.user_id:
            return False
        if change.kind in _STAYING and change.organization_id not in {None, *self.organizations}:
            return False
        return self.limit is None or change.organization_id == self.limit


@read
def of(actor: Actor) -> Sight:
    """Return what the actor may see now."""
    rows = database.execute_sql(
        "select pg_current_snapshot()::text, organization_id, role from (select) one"
        " left join organization_members on user_id = %s and (%s::text is null or organization_id = %s)",
        [actor.user_id, actor.organization_id, actor.organization_id],
    ).fetchall()
    audits_all = actor.is_trusted or actor.is_admin
    return Sight(
        sees_all=audits_all or actor.is_service,
        audits_all=audits_all,
        user_id=actor.user_id,
        organizations={organization: role for _, organization, role in rows if organization is not None},
        limit=actor.organization_id,
        key_ids=frozenset() if actor.api_key_id is None else frozenset(api_keys.line(actor.api_key_id).ids),
        moment=Snapshot.of(rows[0][0]),
    )
