"""API keys. A secret is shown once, when it is created; only its digest is kept."""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, transaction
from service.models.api_keys import LINE, ApiKey
from service.models.row import new_id, split
from service.models.users import User
from service.operations import organizations, quotas, rights, users
from service.operations.listing import Key, Page, Source

PREFIX = "omf_"
"""How a key begins, so that people and secret scanners recognize it."""

_FORM = re.compile(r"omf_(?P<id>[a-z0-9]{1,64})_(?P<secret>[0-9a-f]{64})(?P<checksum>[0-9a-f]{8})")

_SOURCE = Source(
    keys="api_keys t",
    id="t.id",
    order=("t.create_time", "t.id"),
    descending=True,
    message_size=ApiKey.message_size("t"),
    rows="api_keys t on t.id = page.id",
    select=ApiKey.columns("t"),
    of=ApiKey.of,
    key=lambda key: (key.create_time, key.id),
)


class NewKey(NamedTuple):
    """A new key with its secret, which cannot be recovered later."""

    key: ApiKey
    secret: str


class _Lives(NamedTuple):
    """The seconds until each secret of a key expires; None for never, or where there is no previous secret.

    The current one expires with the key, or with the first of those above it.
    """

    current: float | None
    previous: float | None


class Owner(NamedTuple):
    """The owner of a valid key, and for how long it is valid."""

    key: ApiKey
    user: User
    seconds: float | None
    """Until it expires; None for never."""


@transaction
def create(
    actor: Actor,
    *,
    name: str,
    scope: str,
    user_id: str = "",
    organization_id: str | None = None,
    expire_time: datetime | None = None,
) -> NewKey:
    """Add a key for a user, or for the caller for an empty one, good in one organization or wherever the user is.

    One that is made with a key ends with it.
    """
    user_id = rights.user(actor, user_id, "api_key.user_id")
    rights.write_own(actor, organization_id)
    rights.make_secret(actor)
    rights.make_key(actor, _spelled(expire_time))
    users.hold(user_id, mode=quotas.owner_lock(actor))
    quotas.require_room(actor, "api_keys", user_id)
    if organization_id is not None:
        organizations.hold_member(organization_id, user_id)
    id, secret = new_id(), secrets.token_bytes(32)
    key: ApiKey = (
        ApiKey.insert(
            id=id,
            user=user_id,
            organization_id=organization_id,
            name=name,
            scope=scope,
            digest=_digest(secret),
            expire_time=expire_time or rights.end_of_key(actor),
            parent=actor.api_key_id,
        )
        .returning(ApiKey)
        .execute()[0]
    )
    return NewKey(key, _text(id, secret))


@read
def get(actor: Actor, id: str) -> ApiKey:
    """Return one key."""
    key = ApiKey.fetch_one("where t.id = %s", [id])
    if key is None:
        raise errors.not_found("API_KEY", id=id)
    rights.write_key(actor, id, key.user_id, key.organization_id)
    return key


@read
def page(actor: Actor, *, user_id: str, after: Key | None, size: int) -> Page[ApiKey]:
    """Return the keys of a user, or of the caller for an empty one, newest first."""
    user_id = rights.user(actor, user_id)
    where, parameters = ["t.user_id = %s"], [user_id]
    if actor.organization_id is not None:
        where.append("t.organization_id = %s")
        parameters.append(actor.organization_id)
    found = _SOURCE.page(where=where, parameters=parameters, after=after, size=size)
    if not found.rows:
        users.get(actor, id=user_id)
    return found


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, Any], *, etag: str) -> ApiKey:
    """Write `changes`, unless `etag` is given and no longer current."""
    key = _locked(actor, id, etag)
    if "expire_time" in changes and changes["expire_time"] != key.expire_time:
        rights.extend_key(actor, id, _spelled(key.expire_time), _spelled(changes["expire_time"]))
    return key.change(**changes)


@transaction
def revoke(actor: Actor, id: str, *, etag: str) -> ApiKey:
    """End a key for good. A key that was already revoked stays as it is."""
    key = _locked(actor, id, etag)
    if key.revoke_time is not None:
        return key
    ((now,),) = database.execute_sql("select clock_timestamp()").fetchall()
    return key.touch(revoke_time=now)


@transaction
def rotate(actor: Actor, id: str, *, grace: timedelta, etag: str) -> NewKey:
    """Give a key a new secret. The current one stays valid for `grace`; older ones end now."""
    key = _locked(actor, id, etag)
    rights.make_secret(actor)
    rights.renew_key(actor, id)
    if key.revoke_time is not None:
        raise errors.FailedPrecondition("API_KEY_REVOKED", "the API key was revoked")
    secret = secrets.token_bytes(32)
    ((until,),) = database.execute_sql("select clock_timestamp() + %s", [grace]).fetchall()
    after = key.touch(digest=_digest(secret), previous_digest=key.digest, previous_expire_time=until)
    return NewKey(after, _text(id, secret))


@read
def owner(actor: Actor, text: str) -> Owner:
    """Return the owner of a key, or raise Unauthenticated, as when it or one above it was revoked or has expired."""
    match = _FORM.fullmatch(text)
    if match is None or _checksum(match["id"], match["secret"]) != match["checksum"]:
        raise errors.Unauthenticated("key_malformed")
    found = database.execute_prepared(
        f"""
        select
          line.is_over,
          extract(epoch from line.expire_time - clock_timestamp())::float8,
          extract(epoch from t.previous_expire_time - clock_timestamp())::float8,
          {ApiKey.columns("t")}, {User.columns("u")}
        from ({LINE}) line cross join api_keys t join users u on u.id = t.user_id
        where t.id = %s
        """,
        [match["id"], match["id"]],
    ).fetchone()
    if found is None:
        raise errors.Unauthenticated("key_unknown")
    is_over, *found = found
    lives, rest = split(_Lives, found)
    columns = len(ApiKey.names())
    key, user = ApiKey.of(rest[:columns]), User.of(rest[columns:])
    digest = _digest(bytes.fromhex(match["secret"]))
    seconds = lives.current
    if not hmac.compare_digest(digest, bytes(key.digest)):
        if key.previous_digest is None or not hmac.compare_digest(digest, bytes(key.previous_digest)):
            raise errors.Unauthenticated("key_secret")
        seconds = min((life for life in lives if life is not None), default=None)
    if is_over or (seconds is not None and seconds <= 0):
        raise errors.Unauthenticated("key_over")
    return Owner(key, user, seconds)


@transaction
def note_use(actor: Actor, ids: Sequence[str]) -> None:
    """Write when keys were used, at most once a minute each."""
    # In the order of ids, skipping rows that another process is writing: every process does this.
    database.execute_sql(
        """
        update api_keys set last_used_time = clock_timestamp()
        where id in (
            select id from api_keys
            where id = any(%s) and coalesce(last_used_time < clock_timestamp() - interval '1 minute', true)
            order by id for no key update skip locked
        )
        """,
        [list(ids)],
    )


def _locked(actor: Actor, id: str, etag: str) -> ApiKey:
    key = ApiKey.lock_one(ApiKey.id == id)
    if key is None:
        raise errors.not_found("API_KEY", id=id)
    rights.write_key(actor, id, key.user_id, key.organization_id)
    key.require_etag(etag)
    return key


def _spelled(moment: datetime | None) -> str | None:
    """Return a moment as it is kept among rights."""
    return None if moment is None else moment.isoformat()


def _text(id: str, secret: bytes) -> str:
    return f"{PREFIX}{id}_{secret.hex()}{_checksum(id, secret.hex())}"


def _checksum(id: str, secret: str) -> str:
    """Return the checksum that reveals a mistyped key without a query."""
    return f"{zlib.crc32(f'{id}_{secret}'.encode()):08x}"


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
