"""Users who are deleted, with all that goes with them."""

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import refused_by, transaction
from service.models.templates import Template
from service.models.users import User
from service.operations import idempotency, organizations, processing_records, rights

FORGET_AT_ONCE = 1000
"""How many usages and sums of a user are made nobody's in a transaction."""


def empty(actor: Actor, id: str) -> None:
    """Delete the records that go with a user, and make its usage nobody's, unless the user has templates.

    This may take long, and is done in many transactions, so that nobody waits long for any of them. It leaves little to
    `delete`, which locks what others need. It does nothing if there is no such user.
    """
    while _empty_some(actor, id):
        pass


@transaction
def _empty_some(actor: Actor, id: str) -> bool:
    if not User.select().where(User.id == id).exists():
        return False
    rights.delete_user(actor, id)
    if Template.select().where(Template.user == id).exists():
        raise _in_use(actor, id)
    deleted = processing_records.delete_some_of(id, organizations.of_nobody_else(id))
    ((forgotten,),) = database.execute_sql("select forget_usage_of(%s, %s)", [id, FORGET_AT_ONCE]).fetchall()
    # Not until nothing is left: the user may go on making records and usage meanwhile.
    return deleted >= processing_records.DELETE_AT_ONCE or forgotten >= FORGET_AT_ONCE


@transaction
def delete(actor: Actor, id: str) -> None:
    """Delete a user and what belongs to it, unless it has templates.

    Where it was the last ADMIN the organization is closed, and deleted if it has neither members nor templates.
    """
    rights.delete_user(actor, id)
    # A call that adds the user to another organization meanwhile waits for the user's row, or is noticed below.
    locked = organizations.lock_those_of(id)
    of_user = database.execute_sql("select clerk_id from users where id = %s for update", [id]).fetchone()
    if organizations.lock_those_of(id) != locked:
        raise errors.Aborted("CONFLICT", "another call changed the user's memberships; nothing was written")
    with refused_by("templates_have_an_author", lambda: _in_use(actor, id)):
        if of_user is None or not User.delete().where(User.id == id).execute():
            raise errors.not_found("USER", id=id)
    idempotency.keep_counting(id, *of_user)
    organizations.delete_deserted(locked)


def _in_use(actor: Actor, id: str) -> errors.Error:
    count = Template.count_in(rights.countable(actor), "user_id", id)
    return errors.FailedPrecondition("USER_IN_USE", "the user is the author of templates", {"templates": str(count)})
