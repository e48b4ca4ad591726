"""What others than the workers ask of the copies of templates: their states, and to write one now."""

from collections.abc import Mapping
from typing import NamedTuple

from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.templates import Template, View
from service.operations import organizations, rights, templates


class Counts(NamedTuple):
    states: Mapping[str, int]
    oldest_seconds: float
    """Since when the oldest copy is pending that is."""


@read
def is_on(actor: Actor) -> bool:
    """Return whether copies are made."""
    ((found,),) = database.execute_sql("select exists (select from assistant_copying where is_on)").fetchall()
    return bool(found)


@read
def counts(actor: Actor) -> Counts:
    """Return how many copies there are in each state, and how old the oldest is that is pending."""
    states = database.execute_sql("select state::text, count(*) from assistants group by state").fetchall()
    ((oldest,),) = database.execute_sql(
        "select coalesce(extract(epoch from clock_timestamp() - min(pending_time)), 0)::float from assistants"
        " where pending_time is not null"
    ).fetchall()
    return Counts(dict(states), oldest)


@transaction
def sync(actor: Actor, id: str) -> Template:
    """Have a worker write the assistant of a template, whatever it says, and return the template."""
    before = templates.found(id)
    rights.write_template(actor, id, before.user_id, before.organization_id)
    if before.organization_id is not None:
        organizations.require_open(before.organization_id)
    database.execute_sql(
        """
        insert into assistants (template_id, epoch, check_time)
        select %s, epoch, clock_timestamp() from registry where exists (select from assistant_copying where is_on)
        on conflict (template_id) do update set
          check_time = coalesce(assistants.check_time, clock_timestamp()),
          observed = '',
          tries = 0,
          state = case when assistants.desired = '' then assistants.state else 'pending' end,
          try_time = case
            when assistants.desired = '' then assistants.try_time
            else least(assistants.try_time, clock_timestamp())
          end,
          -- It is not put off any more.
          hold_time = case when assistants.holder is not null then assistants.hold_time end
        """,
        (id,),
    )
    return templates.get(actor, id, view=View.SUMMARY)
