"""What the role that serves needs in the database, where another one owns it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg2.errors
from psycopg2 import extensions

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")
_READ = ("SELECT",)

TABLES: Mapping[str, Sequence[str]] = dict.fromkeys(
    (
        "api_keys",
        "assistant_copying",
        "assistant_strays",
        "assistants",
        "idempotency_keys",
        "job_reports",
        "job_schedule",
        "openai_leftovers",
        "openai_models",
        "organization_invitations",
        "organization_members",
        "organizations",
        "processing_inputs",
        "processing_output",
        "processing_records",
        "procrastinate_events",
        "procrastinate_jobs",
        "procrastinate_periodic_defers",
        "procrastinate_workers",
        "statement_times",
        "statistics_samples",
        "template_tools",
        "template_types",
        "templates",
        "usage_arrivals",
        "usage_events",
        "usage_totals",
        "usages",
        "user_template_selections",
        "users",
    ),
    _ALL,
) | dict.fromkeys(
    (
        "changes",
        "registry",
        "revision_texts",
        "schema_migrations",
        "template_revisions",
        "template_type_revisions",
    ),
    _READ,
)
"""The rights on each table. What happened and what was said is written by triggers alone, and what the schema is by
migrations."""

FUNCTIONS = (
    "drop_usage_partition(integer)",
    "make_usage_partitions(timestamp with time zone, timestamp with time zone)",
    "purge_changes(integer, integer)",
    "remove_orphaned_revisions(integer)",
    "remove_orphaned_usage(integer)",
    "renew_epoch()",
)
"""The functions that do what the role itself may not."""

_OWNER_FUNCTIONS = (
    "forget_usage()",
    "record_change()",
    "record_template_revision()",
    "record_type_revision()",
    "tell_assistant()",
)
"""The other such functions, which only the owner's triggers call."""

SEQUENCES = ("procrastinate_events_id_seq", "procrastinate_jobs_id_seq")
"""Whose next numbers the role takes itself, where it inserts."""

_OWNER_SEQUENCES = ("changes_seq_seq", "procrastinate_periodic_defers_id_seq", "procrastinate_workers_id_seq")

HELP = (
    "run `python -m service migrate roles --apply` with OMNIFLO_DATABASE_OWNER_URL for the role that owns the tables,"
    " which is the one that migrates"
)
"""What to do about a right that is missing."""

# A table in a schema without USAGE is not found, as if there were none. There is no current schema then.
MISSING = """
with grantee as (select coalesce(%s::name, current_user) as role)
select wanted.privilege || ' on ' || asked.name
from grantee
cross join unnest(%s::text[], %s::text[]) asked (name, privileges)
cross join lateral (select to_regclass(asked.name) as oid) seen
cross join unnest(string_to_array(asked.privileges, ', ')) wanted (privilege)
where case
  when seen.oid is null then asked.name <> 'schema_migrations' or current_schema() is null
  else not has_table_privilege(role, seen.oid, wanted.privilege)
end
union all
select 'EXECUTE on ' || asked.name
from grantee
cross join unnest(%s::text[]) asked (name)
cross join lateral (select to_regprocedure(asked.name) as oid) seen
where seen.oid is null or not has_function_privilege(role, seen.oid, 'EXECUTE')
union all
select 'USAGE on ' || asked.name
from grantee
cross join unnest(%s::text[]) asked (name)
cross join lateral (select to_regclass(asked.name) as oid) seen
where seen.oid is null or not has_sequence_privilege(role, seen.oid, 'USAGE')
union all
select 'USAGE on schema ' || current_schema()
from grantee
where not has_schema_privilege(role, current_schema(), 'USAGE')
"""
"""Asks which rights a role lacks, with `wanted_by(role)`."""

_UNWANTED = """
with grantee as (select %s::name as role)
select privilege || ' on ' || name
from grantee
cross join unnest(%s::text[], %s::text[]) wanted (name, privileges)
cross join unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) privilege
where privilege <> all (string_to_array(privileges, ', ')) and case
  when privilege = any ('{INSERT,UPDATE,REFERENCES}'::text[]) then has_any_column_privilege(role, name, privilege)
  else has_table_privilege(role, name, privilege)
end
union all
select 'EXECUTE on ' || name from grantee cross join unnest(%s::text[]) name
where has_function_privilege(role, name, 'EXECUTE')
union all
select 'EXECUTE on ' || name || ' for everybody' from unnest(%s::text[]) name
where has_function_privilege('public', name, 'EXECUTE')
union all
select 'UPDATE on ' || name from grantee cross join unnest(%s::text[]) name
where has_sequence_privilege(role, name, 'UPDATE')
union all
select 'CREATE on schema ' || current_schema() from grantee where has_schema_privilege(role, current_schema(), 'CREATE')
"""


class RoleError(Exception):
    """A role cannot serve; the message says why."""


def role_of(url: str) -> str | None:
    """Return the role that a URL names, if it names one."""
    found = extensions.parse_dsn(url).get("user")
    return None if found is None else str(found)


def statements(connection: Any, role: str) -> list[str]:
    """Return the statements that give a role what it needs in the schema of the connection, and take what else it has.

    RoleError where there is no such role, or where it may do all that the role of the connection may.
    """
    grantee = _quoted(connection, role)
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "select current_user, coalesce(current_schema(), 'public'), pg_has_role(%s, current_user, 'MEMBER')",
                (role,),
            )
        except psycopg2.errors.UndefinedObject:
            raise RoleError(
                f"there is no role {grantee}: create it first, such as with `create role {grantee} login`"
            ) from None
        owner, schema, is_owner = cursor.fetchone()
    if is_owner:
        raise RoleError(
            f"the role {grantee} may do all that the owner, {_quoted(connection, owner)}, may: let another one serve,"
            " which is neither a superuser nor a member of the owner"
        )
    schema = _quoted(connection, schema)

    def named(names: Iterable[str]) -> str:
        return ", ".join(f"{schema}.{name}" for name in names)

    written, read = ([table for table, rights in TABLES.items() if rights is kind] for kind in (_ALL, _READ))
    return [
        # Databases that were made before PostgreSQL 15 let everybody create.
        f"revoke create on schema {schema} from public, {grantee}",
        f"revoke all on {named(TABLES)} from {grantee}",
        f"revoke all on sequence {named([*_OWNER_SEQUENCES, *SEQUENCES])} from {grantee}",
        # Everybody may execute a function that was just made, such as by a restore without privileges.
        f"revoke all on function {named([*_OWNER_FUNCTIONS, *FUNCTIONS])} from public, {grantee}",
        f"grant usage on schema {schema} to {grantee}",
        f"grant {', '.join(_ALL).lower()} on {named(written)} to {grantee}",
        f"grant {', '.join(_READ).lower()} on {named(read)} to {grantee}",
        f"grant usage on sequence {named(SEQUENCES)} to {grantee}",
        f"grant execute on function {named(FUNCTIONS)} to {grantee}",
    ]


def apply(connection: Any, role: str) -> None:
    """Execute the statements, in one transaction; RoleError as they, and where the role could still do more."""
    wanted = statements(connection, role)
    # They wait for whoever has locked a table, and a restart should not.
    if not _rights(connection, MISSING, wanted_by(role)) and not _unwanted(connection, role):
        return
    with connection.cursor() as cursor:
        cursor.execute("; ".join(["begin", *wanted, "commit"]))
    if unwanted := ", ".join(_unwanted(connection, role)):
        raise RoleError(
            f"the role {_quoted(connection, role)} has what it needs, and also {unwanted}: take that from everybody"
            " (public), or from the roles of which it is a member"
        )


def wanted_by(role: str | None = None) -> list[object]:
    """Return the parameters of MISSING, for a role or for that of the connection."""
    return [
        role,
        list(TABLES),
        [", ".join(rights) for rights in TABLES.values()],
        list(FUNCTIONS),
        list(SEQUENCES),
    ]


def _unwanted(connection: Any, role: str) -> list[str]:
    owners = list(_OWNER_FUNCTIONS)
    parameters = [*wanted_by(role)[:3], owners, [*owners, *FUNCTIONS], [*_OWNER_SEQUENCES, *SEQUENCES]]
    return _rights(connection, _UNWANTED, parameters)


def _rights(connection: Any, sql: str, parameters: Sequence[object]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return sorted(right for (right,) in cursor.fetchall())


def _quoted(connection: Any, name: str) -> str:
    return str(extensions.quote_ident(name, connection))
