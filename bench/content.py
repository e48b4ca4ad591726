"""What the databases hold: the same templates in the service's tables and in the seed's, and what is expected of them.

Rows go into tables directly and name only the columns that they need: a million creates would take an hour.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from select import select
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
from google.protobuf.timestamp_pb2 import Timestamp
from psycopg2 import extensions
from psycopg2.extras import execute_values

from omniflo.templates.v1.template_pb2 import AssistantState, Template

TYPES = 20
MODELS = 10
RARE = 20
"""How many templates have the rare word in their title, in a database of any size."""

_SEED_SCHEMA = Path(__file__).parent / "peers" / "schema.sql"

_FILL = f"""
insert into users (id, clerk_id)
select bench_id('user', n), 'user_' || n from generate_series(1, %(users)s) n;

insert into template_types (id, name, description)
select bench_id('type', n), 'bench-type-' || n, 'A type of work.' from generate_series(1, {TYPES}) n;

insert into template_tools (id, template_type_id, name, type, description, schema)
select bench_id('tool' || kind, n), bench_id('type', n), 'tool_' || n, kind::openai_tool_type, 'A tool of the type.',
  case when kind = 'function' then
    '{{"type": "object", "properties": {{"field": {{"type": "string", "description": "The name of the field."}},'
    ' "value": {{"type": "string", "description": "The value, as the document spells it."}}}},'
    ' "required": ["field", "value"], "additionalProperties": false}}'
  end
from generate_series(1, {TYPES}) n, unnest(array['file_search', 'code_interpreter', 'function']) kind;

insert into openai_models (id, openai_id, name, shutdown_date)
select bench_id('model', n), 'bench-model-' || n, 'Model ' || n, case when n = {MODELS} then date '2099-01-01' end
from generate_series(1, {MODELS}) n;

insert into templates
  (id, title, description, instructions, user_id, template_type_id, is_default, model_id, temperature,
   create_time, update_time)
select
  bench_id('template', n),
  'Invoices of customer ' || n || case when n %% 10 = 0 then ' common' || %(common)s else '' end
    || case when n %% (%(templates)s / {RARE}) = 0 then ' needle' || %(rare)s else '' end,
  'Reads the invoices of one customer, and answers the total, the currency and the day of each of them, in a table.',
  left('These are invoices of customer ' || n || '. '
    || repeat('Extract the total of each invoice, and the currency in which it is to be paid. ', 14), 1024),
  bench_id('user', 1 + n %% least(%(users)s, 1000)),
  bench_id('type', 1 + n %% {TYPES}),
  n <= {TYPES},
  bench_id('model', 1 + n / {TYPES} %% {MODELS}),
  0.2,
  -- Whole milliseconds: the seed's columns hold no more.
  timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second',
  timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second'
from generate_series(1, %(templates)s) n;

insert into user_template_selections (id, user_id, template_type_id, template_id)
select bench_id('selection', n), bench_id('user', n), bench_id('type', 1 + (1 + n %% %(templates)s) %% {TYPES}),
  bench_id('template', 1 + n %% %(templates)s)
from generate_series(1, %(users)s) n;
"""

_COPIES = (
    (
        "select id, clerk_id, create_time, update_time from users",
        'insert into "User" ("id", "clerkId", "createdAt", "updatedAt") values %s',
    ),
    (
        "select id, name, description, create_time, update_time from template_types",
        'insert into "TemplateType" ("id", "name", "description", "createdAt", "updatedAt") values %s',
    ),
    (
        """
        select id, name, type::text, description, schema, template_type_id, create_time, update_time
        from template_tools
        """,
        """
        insert into "TemplateTool"
          ("id", "name", "type", "description", "schema", "templateTypeId", "createdAt", "updatedAt")
        values %s
        """,
    ),
    (
        "select id, openai_id, name, description, create_time, update_time from openai_models",
        'insert into "OpenAIModel" ("id", "openAIId", "name", "description", "createdAt", "updatedAt") values %s',
    ),
    (
        """
        select id, title, description, instructions, user_id, template_type_id, is_default, model_id, temperature,
          assistant_id, create_time, update_time
        from templates
        """,
        """
        insert into "Template"
          ("id", "title", "description", "instructions", "userId", "templateTypeId", "isDefault", "modelId",
           "temperature", "assistantId", "createdAt", "updatedAt")
        values %s
        """,
    ),
    (
        "select id, user_id, template_id, template_type_id, create_time, update_time from user_template_selections",
        """
        insert into "UserTemplateSelection"
          ("id", "userId", "templateId", "templateTypeId", "createdAt", "updatedAt")
        values %s
        """,
    ),
)
"""What is read from the service's tables, and where it goes in the seed's."""


class Database:
    """A database of the embedded PostgreSQL, past the service."""

    def __init__(self, url: str) -> None:
        self.url = url
        extensions.set_wait_callback(_wait)
        self._connection = psycopg2.connect(url, options="-c timezone=utc")
        self._connection.autocommit = True

    @property
    def name(self) -> str:
        return urlsplit(self.url).path.removeprefix("/")

    @property
    def socket_folder(self) -> str:
        return parse_qs(urlsplit(self.url).query)["host"][0]

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def insert(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._connection.cursor() as cursor:
            execute_values(cursor, sql, rows, page_size=1000)

    def new(self, name: str, *, like: str = "template1") -> "Database":
        """Make a database beside this one: an empty one, or a copy of another."""
        self.query(f"create database {name} template {like}")
        return Database(self.url.replace(f"/{self.name}?", f"/{name}?"))

    def drop(self, name: str) -> None:
        self.query(f"drop database {name} with (force)")

    def settle(self) -> None:
        """Leave nothing to do to PostgreSQL's own workers after rows were written."""
        self.query("vacuum (analyze)")
        self.query("checkpoint")

    def close(self) -> None:
        self._connection.close()


def id_of(kind: str, number: int) -> str:
    """Answer the id of a row, which has the size of a CUID and is in no order, as CUIDs are."""
    return md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest()[:24]


def fill(database: Database, *, templates: int, users: int, rare: str = "", common: str = "") -> None:
    """Fill the service's migrated tables; `rare` and `common` stand in the titles that have a rare or a common word."""
    if templates < TYPES * RARE:
        raise ValueError(f"at least {TYPES * RARE} templates are needed")
    database.query(
        "create function pg_temp.bench_id(kind text, n integer) returns text language sql immutable"
        " return substr(md5(kind || n), 1, 24)"
    )
    values = {"templates": templates, "users": users, "rare": rare, "common": common}
    database.query(_FILL.replace("bench_id(", "pg_temp.bench_id("), values)
    database.settle()


def copy_to_seed(service: Database, seed: Database) -> None:
    """Make the seed's tables, and fill them with what the service's hold."""
    seed.query(_SEED_SCHEMA.read_text())
    for read, insert in _COPIES:
        seed.insert(insert, service.query(read))
    seed.settle()


def template(database: Database, number: int) -> Template:
    """Answer the message that is expected for a template, but for its etag, which only its server knows."""
    return _expected(database, "where t.id = %s", [id_of("template", number)])[0]


def newest(database: Database, count: int) -> list[Template]:
    """Answer the messages that are expected for the newest templates, but for their etags."""
    return _expected(database, "order by t.create_time desc, t.id desc limit %s", [count])


def _expected(database: Database, tail: str, parameters: list[object]) -> list[Template]:
    rows = database.query(
        "select t.id, t.title, t.description, t.instructions, t.user_id, tt.name, t.is_default, m.openai_id,"
        " t.temperature, t.create_time, t.update_time, t.revision"
        " from templates t join template_types tt on tt.id = t.template_type_id"
        f" join openai_models m on m.id = t.model_id {tail}",
        parameters,
    )
    return [
        Template(
            id=id,
            title=title,
            description=description,
            instructions=instructions,
            user_id=user_id,
            template_type=type_name,
            is_default=is_default,
            model=model,
            temperature=temperature,
            assistant_state=AssistantState.ASSISTANT_STATE_NONE,
            create_time=_timestamp(create_time),
            update_time=_timestamp(update_time),
            revision=revision,
        )
        for (
            id,
            title,
            description,
            instructions,
            user_id,
            type_name,
            is_default,
            model,
            temperature,
            create_time,
            update_time,
            revision,
        ) in rows
    ]


def _wait(connection: Any) -> None:
    """Wait for the server where Ctrl-C is heard: libpq alone would first fill a million rows."""
    while (state := connection.poll()) != extensions.POLL_OK:
        sockets = [connection.fileno()]
        is_reading = state == extensions.POLL_READ
        select(sockets if is_reading else [], [] if is_reading else sockets, [])


def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message
