"""The world that every promise about rights is tried in, and those who call in it.

There are three organizations. Each puts its id into the texts and the ids of all that belongs to it, and into nothing
else: where a caller reads `foreign` and is no member there, something leaked.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import grpc
from google.protobuf.message import Message

from service.operations import api_keys
from tests.clerk_stand_in import Clerk
from tests.conftest import (
    ADMIN,
    ALL_CHANGED,
    PLATFORM_ADMIN,
    READER,
    REVISIONS,
    TABLES,
    WRITER,
    Api,
    Callers,
    Database,
    Failure,
)
from tests.contract.methods import Method
from tests.contract.tables import ROW

PEOPLE = ("stranger", "viewer", "member", "author", "admin", "platform", "removed")
"""Users by what they are: the ADMIN of another organization, four of the house, the platform's, and one who left."""

USERS = (*PEOPLE, "deputy", "guest", "recluse")
"""The second ADMIN of every organization, somebody whom all of them invite, and somebody whom nobody but services may
read. These never call."""

MEMBERS = {
    "house": {"viewer": "viewer", "member": "member", "author": "member", "admin": "admin", "deputy": "admin"},
    "foreign": {"stranger": "admin", "deputy": "admin"},
    "annex": {"admin": "admin", "deputy": "admin"},
}
"""The roles of users in each organization. The annex is there to see what a key for the house does not reach."""

GUILD = "guild"
"""An organization of the deputy's, to which all others are invited and of which nothing else is told."""

ADMINISTRATORS = ("platform", "root", "root for platform")
"""The callers who may add a member to any organization."""

DEFAULTS = {"wide-default", "house-default", "foreign-default"}

TEMPLATES = {
    "wide-author": "author",
    "wide-admin": "admin",
    "wide-default": "author",
    "wide-labeled": "author",
    "wide-selected": "deputy",
    "house-template": "author",
    "house-default": "author",
    "house-labeled": "author",
    "house-selected": "deputy",
    "house-removed": "removed",
    "foreign-template": "stranger",
    "foreign-default": "stranger",
    "foreign-selected": "deputy",
    "annex-template": "admin",
    "annex-selected": "deputy",
}
"""The author of each template. What is not the platform's is its organization's by its name."""

RECORDS = {
    "wide-of-author": "author",
    "wide-of-admin": "admin",
    "wide-of-recluse": "recluse",
    "house-of-author": "author",
    "house-of-removed": "removed",
    "house-of-deputy": "deputy",
    "foreign-of-stranger": "stranger",
    "foreign-of-deputy": "deputy",
    "annex-of-admin": "admin",
    "annex-of-deputy": "deputy",
    "wide-run-of-author": "author",
    "wide-run-of-admin": "admin",
    "house-run-of-author": "author",
    "house-run-of-removed": "removed",
    "annex-run-of-admin": "admin",
}
"""The user of each record of a run, which is where its name says, as a template is; the registry does the last ones."""

KEYS = {
    **{f"key{user}": (user, "write", "") for user in USERS},
    **{f"key{user}read": (user, "read", "") for user in ("author", "admin", "platform")},
    "keyadminhouse": ("admin", "write", "house"),
    "keyadminannex": ("admin", "write", "annex"),
    "keyadminrevoked": ("admin", "write", ""),
    "keyadminchild": ("admin", "write", ""),
    "keystrangerforeign": ("stranger", "write", "foreign"),
}
"""Owner, scope and limit of each API key. The child was made with the WRITE key of the admin, and ends before it."""


def clerk_id(user: str) -> str:
    return PLATFORM_ADMIN if user == "platform" else f"clerk-{user}"


def secret_of(key: str) -> bytes:
    return sha256(key.encode()).digest()


def digest_of(key: str) -> str:
    return sha256(secret_of(key)).hexdigest()


def bearer(key: str) -> str:
    """Answer what callers send of the key of that id."""
    return api_keys._text(key, secret_of(key))


@dataclass(frozen=True)
class Caller:
    name: str
    user: str = ""
    """Who calls, or whom a service calls for; nobody for an empty one."""
    service: str = ""
    key: str = ""

    @property
    def named(self) -> str:
        """The user whom requests are about that say nothing else. A service that calls for nobody has to name one."""
        return self.user or "author"

    @property
    def organizations(self) -> list[str]:
        """Where it is a member, as far as its key reaches."""
        _, _, limit = KEYS.get(self.key, ("", "", ""))
        return [name for name, roles in MEMBERS.items() if self.user in roles and limit in {"", name}]

    @property
    def organization(self) -> str:
        """The first of them, or none."""
        return next(iter(self.organizations), "")

    @property
    def is_limited(self) -> bool:
        return self.key == "keyadminhouse"

    def hidden(self) -> list[str]:
        """Answer the words that it must not read."""
        others = [f"key of {user}." for user in USERS if user != self.user]
        words = [*(name for name in MEMBERS if name not in self.organizations), *others]
        if self.user or not self.service:
            # Users are read by themselves and by services, also where something that everybody reads refers to them.
            words += ["recluse", *(f'"{clerk_id(user)}"' for user in USERS if user != self.user)]
        if self.is_limited:
            words.append("without a limit")
        return words


CALLERS = {
    caller.name: caller
    for caller in [
        *(Caller(user, user=user) for user in PEOPLE),
        Caller("reader", service=READER),
        Caller("writer", service=WRITER),
        Caller("root", service=ADMIN),
        Caller("writer for author", service=WRITER, user="author"),
        Caller("writer for platform", service=WRITER, user="platform"),
        Caller("root for platform", service=ADMIN, user="platform"),
        Caller("read key", user="admin", key="keyadminread"),
        Caller("write key", user="admin", key="keyadmin"),
        Caller("house key", user="admin", key="keyadminhouse"),
    ]
}
"""Whoever has an identity; the keys are the ADMIN's of the house."""

STRANGERS = [Caller("nobody"), Caller("revoked key", user="admin", key="keyadminrevoked")]
"""Whoever has none."""


@dataclass(frozen=True)
class Answer:
    """What came of a call: `OK` and a message, or how it was refused."""

    code: str
    reason: str = ""
    message: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    response: Message | None = None

    def about(self, id: str) -> "Answer":
        """Answer the same, with a placeholder for the id that was asked for."""
        metadata = tuple((key, value.replace(id, "…")) for key, value in self.metadata)
        return Answer(self.code, self.reason, self.message.replace(id, "…"), metadata)

    @property
    def text(self) -> str:
        """All that the caller can read, in lower case."""
        read = f"{self.message} {self.metadata}" if self.response is None else str(self.response)
        return read.lower()


class World:
    """The database with the world in it, and stubs for the callers."""

    def __init__(self, channel: grpc.Channel, clerk: Clerk, database: Database, copying: Database) -> None:
        self.database = database
        self._copying = copying
        """Past all triggers, which have made what the copy has."""
        self._restoring = ""
        self._callers = Callers(channel, clerk)
        self._clerk = clerk
        self._apis: dict[Caller, Api] = {}
        self._expected = self.written()
        self._is_first = False

    def restore(self) -> None:
        """Make the database what it was at first, whatever has been done to it."""
        self._is_first = self._is_first and self.is_unchanged()
        self.renew()

    def renew(self) -> None:
        """Make the database what it was at first, unless it still is, as far as is known here."""
        if not self._is_first:
            self._make_again()
            self._is_first = True
            self._expected = self.written()

    def prepare(self, sql: str) -> None:
        """Change what is there before a call."""
        self._is_first = False
        self.database.query(sql)
        self._expected = self.written()

    def has_changed(self) -> None:
        """Note that a call has written."""
        self._is_first = False

    def is_unchanged(self) -> bool:
        """Whether nothing was written since the world was made or prepared."""
        return self.written() == self._expected

    def written(self) -> list[tuple[Any, ...]]:
        """Answer what any write changes: the log, request ids, and what is not in the log."""
        return self.database.query(
            "select (select max(seq) from changes), (select count(*) from idempotency_keys),"
            " (select string_agg(r::text, ',' order by id) from processing_records r),"
            " (select count(*) from openai_leftovers),"
            " (select count(*) from usage_events), (select count(*) from usage_arrivals)"
        )

    def contents(self) -> list[tuple[str, str]]:
        """Answer every row of every table."""
        rows = " union all ".join(
            f"select '{table}' as name, {ROW} as text from {table} t" for table in TABLES.split(", ")
        )
        return [(name, text) for name, text in self.database.query(f"select * from ({rows}) every order by name, text")]

    def api(self, caller: Caller | str) -> Api:
        caller = CALLERS[caller] if isinstance(caller, str) else caller
        if caller not in self._apis:
            self._apis[caller] = self._make(caller)
        return self._apis[caller]

    def bearing(self, text: str) -> Api:
        """Answer the stubs of a caller with a key by its text."""
        return self._callers.bearing(text)

    def call(self, caller: Caller | str, method: Method, request: Message) -> Answer:
        """Make a call and answer what came of it."""
        try:
            response = method.on(self.api(caller))(request)
        except grpc.RpcError as error:
            failure = Failure(error)
            metadata = tuple(sorted(failure.metadata.items()))
            violations = tuple(sorted(failure.violations.items()))
            return Answer(failure.code.name, failure.reason, failure.message, metadata + violations)
        return Answer("OK", response=response)

    def _make_again(self) -> None:
        if self._restoring:
            self._copying.query(self._restoring)
            return
        self.database.query(self._sql())
        tables = (*TABLES.split(", "), *REVISIONS, "changes")
        # A change that is told again is another one.
        columns = self.database.query(
            "select table_name, string_agg(quote_ident(column_name), ', ') from information_schema.columns"
            " where table_schema = 'public' and table_name = any(%s) and is_generated = 'NEVER'"
            " and is_identity = 'NO' and (table_name, column_name) <> ('changes', 'transaction_id') group by 1",
            (list(tables),),
        )
        copies = [
            f"drop table if exists world.{table}; create table world.{table} as table {table}" for table in tables
        ]
        self._copying.query(";".join(["create schema if not exists world", *copies]))
        again = [
            f"delete from {table}; insert into {table} ({names}) select {names} from world.{table}"
            for table, names in columns
        ]
        self._restoring = ";".join([*again, ALL_CHANGED])

    def _make(self, caller: Caller) -> Api:
        if caller.service:
            return self._callers.service(caller.service, caller.user or None)
        if caller.key:
            return self._callers.bearing(bearer(caller.key))
        if caller.user:
            # Longer than all tests take.
            session = self._clerk.session(clerk_id(caller.user), exp=int(time.time()) + 3600)
            return self._callers.bearing(session)
        return self._callers.nobody()

    def _sql(self) -> str:
        deletes = [f"delete from {table}" for table in (*TABLES.split(", "), "changes")]
        return ";".join([*deletes, *_inserts()])


def organization_of(template: str) -> str:
    """Answer the organization that a template belongs to, or nothing for one of the platform's."""
    return template.partition("-")[0].replace("wide", "")


def _inserts() -> list[str]:
    organizations = [(name, f"The {name}") for name in MEMBERS]
    members = [(f"{name}-{user}", name, user, role) for name, roles in MEMBERS.items() for user, role in roles.items()]
    templates = [
        (id, f"About {id}", f"Of {id}", f"Do {id}.", user, "type", "model", id in DEFAULTS, organization_of(id) or None)
        for id, user in TEMPLATES.items()
    ]
    selections = [
        (f"{name or 'wide'}-{user}", user, "type", f"{name or 'wide'}-selected", name or None, name)
        for name, roles in {"": USERS, **MEMBERS}.items()
        for user in roles
    ]
    keys = [
        (id, user, limit or None, f"The key of {user}. {_limit(limit)}", scope, f"\\x{digest_of(id)}")
        for id, (user, scope, limit) in KEYS.items()
    ]
    return [
        _insert("users (id, clerk_id)", [(user, clerk_id(user)) for user in USERS]),
        _insert("template_types (id, name)", [("type", "kind"), ("spare-type", "spare")]),
        _insert("template_tools (id, template_type_id, name, type)", [("tool", "spare-type", "a_tool", "file_search")]),
        _insert("openai_models (id, openai_id, name)", [("model", "gpt", "A model"), ("other", "gpt-other", "Other")]),
        _insert("organizations (id, name)", organizations),
        _insert("organization_members (id, organization_id, user_id, role)", members),
        _insert(
            "templates (id, title, description, instructions, user_id, template_type_id, model_id, is_default,"
            " organization_id)",
            templates,
        ),
        _insert(
            "user_template_selections (id, user_id, template_type_id, template_id, organization_id, template_scope)",
            selections,
        ),
        _insert("organizations (id, name)", [(GUILD, "The guild")]),
        _insert(
            "organization_members (id, organization_id, user_id, role)", [("guild-deputy", GUILD, "deputy", "admin")]
        ),
        _insert(
            "organization_invitations (id, organization_id, user_id, role, inviter_id, expire_time)",
            [
                (f"{name}-{user}", name, user, "viewer", "deputy", "2100-01-01Z")
                for name, users in {GUILD: (*PEOPLE, "recluse"), **dict.fromkeys(MEMBERS, ("guest",))}.items()
                for user in users
            ],
        ),
        _insert(
            "processing_records (id, user_id, organization_id, filename, status, template_id, runner, openai_file_id)",
            [
                (id, user, organization_of(id) or None, f"{id}.pdf", "uploading", "wide-author", _runner(id), "file-1")
                for id, user in RECORDS.items()
            ],
        ),
        _insert("api_keys (id, user_id, organization_id, name, scope, digest)", keys),
        """update templates set labels = '{"production": 1}' where id in ('wide-labeled', 'house-labeled')""",
        "update api_keys set revoke_time = now() where id = 'keyadminrevoked'",
        "update api_keys set expire_time = '2070-01-01Z' where id = 'keyadmin'",
        "update api_keys set expire_time = '2050-01-01Z' where id in ('keyadminchild', 'keyadminhouse')",
        "update api_keys set parent_id = 'keyadmin' where id = 'keyadminchild'",
    ]


def _runner(record: str) -> str:
    return "registry" if "-run-" in record else "caller"


def _limit(organization: str) -> str:
    return f"For the {organization}." if organization else "Without a limit."


def _insert(into: str, rows: Sequence[tuple[object, ...]]) -> str:
    return f"insert into {into} values {', '.join(f'({_list(row)})' for row in rows)}"


def _list(row: tuple[object, ...]) -> str:
    # Texts of ours, in which nothing is quoted.
    return ", ".join("null" if value is None else f"'{value}'" for value in row)
