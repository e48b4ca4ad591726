"""Organizations and their members."""

import peewee as pw

from service.models.row import Choice, Text, Versioned
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
