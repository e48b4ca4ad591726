"""Records of runs: a template with a file, and what came of it."""

from typing import Any

import peewee as pw

from service.models.organizations import Organization
from service.models.row import Choice, Moment, Text, Versioned
from service.models.users import User

ENDED = frozenset({"completed", "failed", "cancelled"})
"""The statuses after which there is no other."""

USAGE = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
"""The columns of what a run used: all of them, or none."""


class Status(Choice):
    field_type = "processing_status"


class Runner(Choice):
    field_type = "processing_runner"


class Span(pw.Field):
    """A length of time, as a timedelta."""

    field_type = "INTERVAL"


class ProcessingRecord(Versioned):
    filename = pw.TextField()
    user = pw.ForeignKeyField(User, lazy_load=False, on_delete="CASCADE")
    organization = pw.ForeignKeyField(Organization, lazy_load=False, null=True, on_delete="CASCADE")
    """None is platform-wide."""
    openai_file_id = Text(default="")
    """OpenAI's; empty until it is known."""
    status = Status()
    """`uploading`, `processing`, `completed`, `failed` or `cancelled`; it goes forward only."""
    processing_time: Any = Span(null=True)
    error_reason = pw.TextField(default="")
    error_message = pw.TextField(default="")
    template_id = Text()
    """Of one that may be gone."""
    template_revision = pw.BigIntegerField(default=0)
    template_type_revision = pw.BigIntegerField(default=0)
    """0 where they are not known."""
    model = pw.TextField(default="")
    results = pw.TextField(default="")
    output_text = pw.TextField(default="")
    response_id = Text(default="")
    input_tokens = pw.BigIntegerField(null=True)
    cached_tokens = pw.BigIntegerField(null=True)
    output_tokens = pw.BigIntegerField(null=True)
    reasoning_tokens = pw.BigIntegerField(null=True)
    runner = Runner()
    """`registry` or `caller`."""
    complete_time = Moment(null=True)
    """When the status became one of ENDED; the database sets it."""

    class Meta:
        table_name = "processing_records"

    user_id: str
    organization_id: str | None
