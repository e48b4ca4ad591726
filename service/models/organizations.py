"""Organizations, their members, and who is invited to become one."""

from collections.abc import Sequence
from typing import Any, Self

import peewee as pw

from service.database.handle import database
from service.models.row import Choice, Moment, Row, Text, Versioned
from service.models.users import User


class Organization(Versioned):
    name = Text()

    class Meta:
        table_name = "organizations"


class OrganizationRole(Choice):
    field_type = "organization_role"


class Member(Versioned):
    organization = pw.ForeignKeyField(Organization, lazy_load=False, on_delete="CASCADE")
    user = pw.ForeignKeyField(User, lazy_load=False, on_delete="CASCADE")
    role = OrganizationRole()
    """`admin`, `member` or `viewer`."""

    class Meta:
        table_name = "organization_members"

    organization_id: str
    user_id: str


class Invitation(Row):
    organization = pw.ForeignKeyField(Organization, lazy_load=False, on_delete="CASCADE")
    user = pw.ForeignKeyField(User, lazy_load=False, on_delete="CASCADE")
    role = OrganizationRole()
    inviter_id = Text(null=True)
    """Refers, together with the organization, to a member. None where calls are not authenticated."""
    expire_time = Moment()

    class Meta:
        table_name = "organization_invitations"

    organization_id: str
    user_id: str
    organization_name: str

    @classmethod
    def of_joined(cls, values: Sequence[Any]) -> Self:
        """Make an invitation of the name of its organization, and its columns."""
        invitation = cls.of(values[1:])
        invitation.organization_name = values[0]
        return invitation

    @classmethod
    def open(cls, id: str) -> Self | None:
        """Return the invitation of that id, unless it has expired."""
        sql = (
            f"select place.name, {cls.columns('t')} from organization_invitations t"
            " join organizations place on place.id = t.organization_id"
            " where t.id = %s and t.expire_time > clock_timestamp()"
        )
        found = database.execute_prepared(sql, [id]).fetchone()
        return None if found is None else cls.of_joined(found)
