"""API keys. A row has the digest of a secret, never the secret."""

import peewee as pw

from service.models.row import Choice, Moment, Text, Versioned
from service.models.users import User


class Scope(Choice):
    field_type = "api_key_scope"


class ApiKey(Versioned):
    user = pw.ForeignKeyField(User, lazy_load=False, on_delete="CASCADE")
    organization_id = Text(null=True)
    """Refers, together with the user, to a member."""
    name = pw.TextField()
    scope = Scope()
    """`read` or `write`."""
    digest = pw.BlobField()
    """The SHA-256 of the secret."""
    previous_digest = pw.BlobField(null=True)
    previous_expire_time = Moment(null=True)
    expire_time = Moment(null=True)
    last_used_time = Moment(null=True)
    revoke_time = Moment(null=True)

    class Meta:
        table_name = "api_keys"

    user_id: str
