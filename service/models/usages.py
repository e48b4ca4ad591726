"""What templates and models are used for: as it was recorded, and summed up by functions of the migrations."""

import peewee as pw
from playhouse.postgres_ext import ArrayField

from service.database.handle import database
from service.models.row import Choice, Moment, Text


class UsageEvent(pw.Model):
    """A usage that is recorded: it does not count again."""

    caller = pw.BlobField()
    event_id = Text()
    receive_time = Moment(constraints=[pw.SQL("default clock_timestamp()")])

    class Meta:
        database = database
        table_name = "usage_events"
        primary_key = pw.CompositeKey("caller", "event_id")


class Usage(pw.Model):
    """One request to a model. Empty texts and 0 are unknown, or none."""

    id = pw.UUIDField(constraints=[pw.SQL("default gen_random_uuid()")])
    time = Moment()
    template_id = Text()
    template_revision = pw.BigIntegerField()
    template_type = Text()
    model = Text()
    user_id = Text()
    organization_id = Text()
    duration = pw.BigIntegerField()
    """In microseconds."""
    input_tokens = pw.BigIntegerField()
    cached_tokens = pw.BigIntegerField()
    output_tokens = pw.BigIntegerField()
    reasoning_tokens = pw.BigIntegerField()
    token_count = pw.BigIntegerField()
    success = pw.BooleanField()
    error_code = Text()

    class Meta:
        database = database
        table_name = "usages"
        primary_key = False


class UsageArrival(Usage):
    """One that is not summed up yet."""

    class Meta:
        table_name = "usage_arrivals"
        primary_key = False


class Level(Choice):
    field_type = "USAGE_LEVEL"


class Period(Choice):
    field_type = "USAGE_PERIOD"


class UsageTotal(pw.Model):
    """The sum of usages of a level and a period."""

    level = Level()
    period = Period()
    time = Moment()
    template_id = Text()
    template_revision = pw.BigIntegerField()
    template_type = Text()
    model = Text()
    user_id = Text()
    organization_id = Text()
    count = pw.BigIntegerField()
    success_count = pw.BigIntegerField()
    input_tokens = pw.BigIntegerField()
    cached_tokens = pw.BigIntegerField()
    output_tokens = pw.BigIntegerField()
    reasoning_tokens = pw.BigIntegerField()
    token_count = pw.BigIntegerField()
    duration = pw.BigIntegerField()
    buckets = ArrayField(pw.SmallIntegerField, index=False)
    bucket_counts = ArrayField(pw.BigIntegerField, index=False)

    class Meta:
        database = database
        table_name = "usage_totals"
        primary_key = pw.CompositeKey(
            "level",
            "period",
            "time",
            "template_id",
            "template_revision",
            "template_type",
            "model",
            "user_id",
            "organization_id",
        )
