"""The responses of writes that carried a request_id."""

import peewee as pw

from service.database.handle import database
from service.models.row import Text, Timestamp


class IdempotencyKey(pw.Model):
    caller = Text()
    method = Text()
    request_id = Text()
    fingerprint = pw.BlobField()
    response = pw.BlobField(null=True)
    create_time = Timestamp()
    digest = pw.BlobField(null=True)
    """Of a response that is not kept, its SHA-256."""
    resource_id = Text(null=True)
    """Of what such a response shows."""
    epoch = pw.UUIDField(null=True)
    transaction_id = pw.BigIntegerField(null=True)
    """Of the write, in the log of changes."""
    rights = pw.JSONField(constraints=[pw.SQL("default '[]'")])

    class Meta:
        database = database
        table_name = "idempotency_keys"
        primary_key = pw.CompositeKey("caller", "method", "request_id")
