"""The role that owns the tables, and the one that serves: what the second is given, and by whom."""

from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from service.database import embedded, handle, migrate
from service.database.grants import FUNCTIONS, HELP, SEQUENCES, TABLES
from tests.conftest import Database, as_service
from tests.e2e.clients import connected
from tests.e2e.serving import serving
from tests.e2e.test_process import run

SERVICE = "omniflo_service"


def migrating(empty: Database, *arguments: str, **settings: str) -> CompletedProcess[str]:
    urls = {"database_url": as_service(empty.url), "database_owner_url": empty.url}
    return run("migrate", *arguments, **urls | settings)


def said(done: CompletedProcess[str]) -> str:
    """Answer why a command failed."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def rights(database: Database) -> dict[str, str]:
    """Answer what the serving role may do, of what not everybody may."""
    return dict(
        database.query(
            "select name, string_agg(privilege, ', ' order by privilege) from ("
            "  select relname::text as name, privilege"
            "  from pg_class, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) privilege"
            "  where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition"
            f"  and has_table_privilege('{SERVICE}', oid, privilege)"
            "  union all select oid::regclass::text, privilege"
            "  from pg_class, unnest('{USAGE,SELECT,UPDATE}'::text[]) privilege"
            "  where relnamespace = 'public'::regnamespace and relkind = 'S'"
            f"  and has_sequence_privilege('{SERVICE}', oid, privilege)"
            "  union all select oid::regprocedure::text, 'EXECUTE'"
            f"  from pg_proc where prosecdef and has_function_privilege('{SERVICE}', oid, 'EXECUTE')"
            "  union all select 'public', 'CREATE'"
            f"  where has_schema_privilege('{SERVICE}', 'public', 'CREATE')"
            ") as rights group by name"
        )
    )


WANTED = (
    {table: ", ".join(sorted(rights)) for table, rights in TABLES.items()}
    | {function.replace(", ", ","): "EXECUTE" for function in FUNCTIONS}
    | dict.fromkeys(SEQUENCES, "USAGE")
)


def test_migrating_gives_the_serving_role_what_it_needs_and_no_more(empty: Database) -> None:
    assert migrating(empty, "up").returncode == 0
    assert rights(empty) == WANTED
    assert run("migrate", "verify", database_url=as_service(empty.url)).returncode == 0


def test_what_a_role_has_beyond_its_needs_is_taken_from_it(empty: Database) -> None:
    assert migrating(empty, "up").returncode == 0
    empty.query(
        "; ".join(
            f"grant all on all {kind} in schema public to {SERVICE}" for kind in ("tables", "sequences", "routines")
        )
        + f"; grant update (actor) on changes to {SERVICE}"
        + "; grant execute on function purge_changes(integer, integer), renew_epoch(), record_change() to public"
        + f"; grant create on schema public to {SERVICE}, public; revoke select on users from {SERVICE}"
    )
    assert set(rights(empty)) > set(WANTED)
    assert migrating(empty, "up").stdout == "nothing to apply\n"
    assert rights(empty) == WANTED
    definers = "select from pg_proc where prosecdef and has_function_privilege('public', oid, 'EXECUTE')"
    assert not empty.query(definers)
    assert not empty.query(
        "select from information_schema.column_privileges where grantee = %s and table_name = "
        "'changes' and privilege_type <> 'SELECT'",
        (SERVICE,),
    )


@pytest.mark.parametrize(
    ("grant", "named"),
    [
        ("grant update, delete on changes to public", "DELETE on changes, UPDATE on changes"),
        ("grant trigger on users to public", "TRIGGER on users"),
        ("grant update on sequence changes_seq_seq to public", "UPDATE on changes_seq_seq"),
    ],
)
def test_a_right_that_it_has_because_everybody_has_it_is_named(empty: Database, grant: str, named: str) -> None:
    assert migrating(empty, "up").returncode == 0
    empty.query(grant)
    message = f'the role "{SERVICE}" has what it needs, and also {named}: take that from everybody (public)'
    for command in (["up"], ["roles", "--apply"]):
        assert said(migrating(empty, *command)).startswith(message)


def test_the_statements_are_printed_and_executed_when_asked_to(empty: Database) -> None:
    # One role has owned everything so far.
    assert run("migrate", "up", database_url=empty.url).returncode == 0
    assert rights(empty) == {}
    assert said(run("migrate", "verify", database_url=as_service(empty.url))).endswith(HELP)
    printed = migrating(empty, "roles")
    assert printed.returncode == 0
    assert rights(empty) == {}, "it was only asked what they are"
    lines = printed.stdout.splitlines()
    assert all(line.endswith(";") and SERVICE in line for line in lines)
    empty.query(printed.stdout)
    assert rights(empty) == WANTED
    empty.query(f"revoke all on {', '.join(TABLES)} from {SERVICE}")
    assert migrating(empty, "roles", "--apply").stdout == printed.stdout
    assert rights(empty) == WANTED


@pytest.fixture
def names(postgres: embedded.Server) -> Iterator[dict[str, str]]:
    """Names of roles that cannot serve."""
    admin = Database(postgres.admin_url)
    admin.query("create role a_member login; grant omniflo to a_member")
    yield {"superuser": "postgres", "member": "a_member", "nobody": "no such role"}
    admin.query("drop role a_member")
    admin.close()


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("nobody", 'there is no role "no such role": create it first'),
        ("superuser", 'the role "postgres" may do all that the owner, "omniflo", may'),
        ("member", 'the role "a_member" may do all that the owner, "omniflo", may'),
    ],
)
def test_a_role_that_cannot_serve_is_refused_by_name(
    empty: Database, names: dict[str, str], who: str, message: str
) -> None:
    url = as_service(empty.url).replace(SERVICE, names[who].replace(" ", "%20"))
    assert said(migrating(empty, "up", database_url=url)).startswith(message)
    for flags in ([], ["--apply"]):
        assert said(migrating(empty, "roles", *flags, database_url=url)).startswith(message)


def test_one_role_may_do_everything_and_is_given_nothing(empty: Database) -> None:
    assert run("migrate", "up", database_url=empty.url, database_owner_url=empty.url).returncode == 0
    assert run("seed", database_url=empty.url).returncode == 0
    for urls in ({}, {"database_owner_url": empty.url}):
        done = run("migrate", "roles", "--apply", database_url=empty.url, **urls)
        assert said(done).startswith("set OMNIFLO_DATABASE_OWNER_URL for the role that owns the tables")


@pytest.mark.parametrize("nobody", ["", "postgresql:///nothing"])
def test_beside_an_owner_the_role_that_serves_has_to_be_named(empty: Database, nobody: str) -> None:
    for command in ("roles", "up", "status"):
        done = migrating(empty, command, database_url=nobody)
        assert said(done) == "OMNIFLO_DATABASE_URL: must name a role where OMNIFLO_DATABASE_OWNER_URL is set"


def test_rights_on_what_is_not_there_yet_are_given_by_migrating(empty: Database) -> None:
    assert migrating(empty, "up", "--to", "3").returncode == 0
    for flags in ([], ["--apply"]):
        assert said(migrating(empty, "roles", *flags)).startswith(
            "migrations are pending: run `python -m service migrate"
        )
    assert migrating(empty, "up").returncode == 0
    assert rights(empty) == WANTED


def test_the_serving_role_is_told_that_it_cannot_migrate(empty: Database) -> None:
    assert HELP in said(run("migrate", "up", database_url=as_service(empty.url)))
    assert migrating(empty, "up").returncode == 0
    assert run("migrate", "up", database_url=as_service(empty.url)).stdout == "nothing to apply\n"
    assert migrating(empty, "down", "--yes").returncode == 0
    assert HELP in run("migrate", "up", database_url=as_service(empty.url)).stderr


def test_the_data_of_a_release_with_one_role_is_taken_over(tmp_path: Path, url: str) -> None:
    before = embedded.Server(tmp_path)
    before.start()
    handle.database.drop()
    handle.database.configure(before.url)
    migrate.up(migrate.load())
    handle.database.drop()
    handle.database.configure(as_service(url))
    admin = Database(before.admin_url)
    admin.query(f"insert into users (id, clerk_id) values ('u1', 'user_of_before'); drop role {SERVICE}")
    admin.close()
    before.stop()
    with serving("", tmp_path / "log", data_dir=tmp_path) as service, connected(service.address) as api:
        with embedded.running(tmp_path) as urls:
            there = Database(urls.owner)
        assert rights(there) == WANTED
        api.user()
        ours = there.query(
            "select distinct usename::text from pg_stat_activity where application_name = 'omniflo-templates'"
        )
        assert ours == [(SERVICE,)]
        assert there.query("select count(*) from users") == [(2,)]
        there.close()
