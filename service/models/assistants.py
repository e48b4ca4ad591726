"""Copies of templates as assistants; docs/decisions/0025-assistants-are-copies.md says why there are these columns."""

import peewee as pw

from service.database.handle import database
from service.models.row import Choice, Moment, Text


class Copies:
    """Whether templates are read with the states of their copies. Where none are made, that would cost for nothing."""

    are_shown = False


class AssistantState(Choice):
    field_type = "assistant_state"


class Assistant(pw.Model):
    template_id = Text(primary_key=True)
    epoch = pw.UUIDField()
    """The registry that made the assistant."""
    state = AssistantState(constraints=[pw.SQL("default 'none'")])
    check_time = Moment(null=True)
    """Since when it is to be compared with the template."""
    desired = Text(constraints=[pw.SQL("default ''")])
    """The digest of what it should say, empty for none."""
    observed = Text(constraints=[pw.SQL("default ''")])
    """The digest of what it says, empty where that is not known."""
    assistant_id = Text(null=True)
    attempt_id = Text(null=True)
    """Of the request that created it, or may have."""
    attempt_time = Moment(null=True)
    try_time = Moment(null=True)
    """Since when something is to be done, or from when on: its place in the order."""
    holder = Text(null=True)
    """Who does it; nobody while it is put off."""
    hold_time = Moment(null=True)
    """Until when nobody else takes it."""
    tries = pw.BigIntegerField(constraints=[pw.SQL("default 0")])
    error_code = Text(constraints=[pw.SQL("default ''")])
    pending_time = Moment(null=True)

    class Meta:
        database = database
        table_name = "assistants"


class AssistantCopying(pw.Model):
    id = pw.BooleanField(primary_key=True, constraints=[pw.SQL("default true")])
    is_on = pw.BooleanField(constraints=[pw.SQL("default false")])
    position = Text(null=True)
    """A token of service/positions.py."""
    quiet_time = Moment(null=True)
    """Until when nobody asks the server."""

    class Meta:
        database = database
        table_name = "assistant_copying"


class AssistantStray(pw.Model):
    assistant_id = Text(primary_key=True)
    times = pw.BigIntegerField(constraints=[pw.SQL("default 1")])
    """In how many sweeps it belonged to no template, one after the other."""
    is_doomed = pw.BooleanField(constraints=[pw.SQL("default false")])

    class Meta:
        database = database
        table_name = "assistant_strays"
