"""The users that templates and selections belong to."""

from service import errors
from service.actor import Actor
from service.database.transactions import read, transaction
from service.models.row import new_id
from service.models.users import User
from service.operations import rights
from service.operations.listing import Key, Page, Source

_SOURCE = Source(
    keys="users t",
    id="t.id",
    order=("t.create_time", "t.id"),
    descending=True,
    message_size=User.message_size("t"),
    rows="users t on t.id = page.id",
    select=User.columns("t"),
    of=User.of,
    key=lambda user: (user.create_time, user.id),
)


@transaction
def provision(actor: Actor, clerk_id: str) -> User:
    """Return the user of a Clerk identifier, created if there is none."""
    found = User.fetch_one("where t.clerk_id = %s", [clerk_id])
    rights.provision(actor, None if found is None else found.id)
    if found is not None:
        return found
    # Another call may have been faster: the update changes nothing, but returns the row.
    insert = User.insert(id=new_id(), clerk_id=clerk_id)
    upsert = insert.on_conflict(conflict_target=[User.clerk_id], preserve=[User.clerk_id])
    user: User = upsert.returning(User).execute()[0]
    return user


@read
def get(actor: Actor, **key: str) -> User:
    """Return the user of an `id` or a `clerk_id`."""
    user = User.fetch_by(key, "id", "clerk_id")
    if user is None or not rights.reads_user(actor, user.id):
        raise errors.not_found("USER", **key)
    return user


@read
def page(actor: Actor, *, after: Key | None, size: int) -> Page[User]:
    """Return the users whom the actor may read, newest first."""
    if actor.is_trusted or actor.is_service:
        return _SOURCE.page(after=after, size=size)
    return _SOURCE.page(where=["t.id = %s"], parameters=[actor.user_id], after=after, size=size)


def hold(id: str, *, mode: str = "FOR KEY SHARE") -> User:
    """Return the user, whom nobody can delete until the transaction ends."""
    user = User.lock_one(User.id == id, mode=mode)
    if user is None:
        raise errors.not_found("USER", id=id)
    return user
