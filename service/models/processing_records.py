"""Records of runs: a template with a file, and what came of it."""

from typing import Any

import peewee as pw

from service.database.handle import database
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

    attempt = pw.BigIntegerField(constraints=[pw.SQL("default 1")])
    """How often it was asked for."""
    owns_file = pw.BooleanField(default=False)
    """Whether the registry uploaded the file, and so may delete it."""
    try_time = Moment(null=True)
    """When a worker is to take it, or to take it over; None where there is nothing to do."""
    holder = Text(null=True)
    """Who has it; a new name each time that it is taken."""
    sent_time = Moment(null=True)
    """When the request to OpenAI was begun."""
    next_event = pw.BigIntegerField(constraints=[pw.SQL("default 0")])
    """The number of the next event of OpenAI's: those before it are kept."""
    tries = pw.BigIntegerField(constraints=[pw.SQL("default 0")])
    """How often OpenAI has put it off."""

    class Meta:
        table_name = "processing_records"

    user_id: str
    organization_id: str | None


class ProcessingInput(pw.Model):
    """What is sent to OpenAI with the file, as it was rendered when the record was created."""

    record = pw.ForeignKeyField(ProcessingRecord, primary_key=True, lazy_load=False, on_delete="CASCADE")
    body = pw.TextField()
    input_text = pw.TextField()
    response_format = pw.TextField(null=True)
    """The JSON Schema of the answer, if the template has one."""

    class Meta:
        database = database
        table_name = "processing_inputs"


class ProcessingOutput(pw.Model):
    """A piece of the text of a run that goes on."""

    record_id = pw.ForeignKeyField(ProcessingRecord, column_name="record_id", lazy_load=False, on_delete="CASCADE")
    seq = pw.BigIntegerField()
    text = pw.TextField()

    class Meta:
        database = database
        table_name = "processing_output"
        primary_key = pw.CompositeKey("record_id", "seq")


class LeftoverKind(Choice):
    field_type = "openai_leftover_kind"


class OpenAILeftover(pw.Model):
    """A file that is to be deleted at OpenAI, or a response that is to be cancelled there."""

    kind = LeftoverKind()
    id = Text()
    try_time = Moment(constraints=[pw.SQL("default clock_timestamp()")])
    tries = pw.BigIntegerField(constraints=[pw.SQL("default 0")])

    class Meta:
        database = database
        table_name = "openai_leftovers"
        primary_key = pw.CompositeKey("kind", "id")
