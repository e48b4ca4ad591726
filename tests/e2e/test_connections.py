"""What the database handle does when a statement fails: operations on a real connection, without a server between."""

import threading
from collections.abc import Callable, Iterator

import pytest
from peewee import DataError

from service import errors, happenings
from service.actor import SYSTEM, Actor
from service.database import handle, migrate
from service.database.transactions import read, transaction
from service.deadline import time_limit
from service.models.templates import View
from service.models.users import User
from service.operations import openai_models, seed, templates, users
from tests.conftest import Database, as_service


@pytest.fixture
def own(new_database: Callable[[], str], url: str) -> Iterator[Database]:
    """A seeded database, which this thread's operations work on."""
    database = Database(new_database())
    handle.database.drop()
    handle.database.configure(database.url)
    migrate.up(migrate.load())
    seed.run(SYSTEM)
    yield database
    handle.database.drop()
    handle.database.configure(as_service(url))
    handle.database.prepares = True
    database.close()


@read
def execute(sql: str) -> None:
    handle.database.execute_sql(sql)


@read
def backend() -> int:
    (pid,) = handle.database.execute_sql("select pg_backend_pid()").fetchone()
    return int(pid)


def test_a_pooler_that_loses_prepared_statements_switches_preparing_off(own: Database) -> None:
    del own
    openai_models.get(SYSTEM, openai_id="gpt-5.5")
    execute("deallocate all")
    assert openai_models.get(SYSTEM, openai_id="gpt-5.5").name == "GPT-5.5"
    assert not handle.database.prepares
    assert openai_models.get(SYSTEM, openai_id="gpt-4.1").name == "GPT-4.1"


def test_a_connection_that_was_killed_is_replaced_by_one_that_prepares(own: Database) -> None:
    openai_models.get(SYSTEM, openai_id="gpt-5.5")
    own.query(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    assert openai_models.get(SYSTEM, openai_id="gpt-5.5").name == "GPT-5.5"
    assert handle.database.prepares


def test_a_prepared_statement_is_named_after_its_text(own: Database) -> None:
    del own
    handle.database.drop()
    openai_models.get(SYSTEM, openai_id="gpt-5.5")
    first = dict(handle.thread.prepared)
    handle.database.drop()
    # In another order, as on a connection that a pooler hands on.
    with pytest.raises(errors.NotFound):
        users.get(SYSTEM, id="nobody")
    openai_models.get(SYSTEM, openai_id="gpt-5.5")
    assert len(handle.thread.prepared) == 2
    assert first.items() <= handle.thread.prepared.items()


def test_a_migration_that_changes_what_is_answered_makes_the_connection_new(own: Database) -> None:
    openai_models.get(SYSTEM, openai_id="gpt-5.5")
    own.query("alter table openai_models alter description type varchar(3000)")
    assert openai_models.get(SYSTEM, openai_id="gpt-5.5").name == "GPT-5.5"
    assert handle.database.prepares


def test_what_a_failed_transaction_prepared_is_executed_after_it(own: Database) -> None:
    del own
    handle.database.drop()

    @transaction
    def failing(_: Actor) -> None:
        openai_models.get(SYSTEM, openai_id="gpt-5.5")
        handle.database.execute_sql("select 1 / 0")

    with pytest.raises(DataError):
        failing(SYSTEM)
    assert handle.thread.prepared
    assert openai_models.get(SYSTEM, openai_id="gpt-5.5").name == "GPT-5.5"
    assert handle.database.prepares


def test_a_query_outside_an_operation_is_a_mistake(own: Database) -> None:
    del own
    with pytest.raises(RuntimeError, match="outside an operation"):
        handle.database.execute_sql("select 1")


def test_a_slow_statement_is_ended_by_the_server_and_spares_the_connection(own: Database) -> None:
    del own

    @transaction
    def sleep(_: Actor) -> None:
        handle.database.execute_sql("select pg_sleep(10)")

    before = backend()
    with time_limit(0.3), pytest.raises(errors.DeadlineExceeded):
        sleep(SYSTEM)
    assert backend() == before


def test_a_deadlock_is_tried_again_and_both_succeed(own: Database) -> None:
    first, second = (users.provision(SYSTEM, f"user_{number}").id for number in (1, 2))
    both_hold = threading.Barrier(2)
    tries: list[str] = []

    @transaction
    def update(_: Actor, one: str, other: str) -> None:
        tries.append(one)
        for id in (one, other):
            User.update(update_time=User.update_time).where(User.id == id).execute()
            if len(tries) <= 2 and id == one:
                both_hold.wait(5)

    def run(one: str, other: str) -> None:
        update(SYSTEM, one, other)
        handle.database.drop()

    threads = [threading.Thread(target=run, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    # One of them was the victim, at least once, and both are done.
    assert len(tries) >= 3
    assert own.query("select deadlocks from pg_stat_database where datname = current_database()") is not None


def test_a_conflict_that_does_not_end_is_given_up_after_three_tries(
    own: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    del own
    tries = 0
    told: list[tuple[str, str, int]] = []
    monkeypatch.setattr(happenings, "_hear", lambda *what: told.append(what))

    @transaction
    def conflict(_: Actor) -> None:
        nonlocal tries
        tries += 1
        raise errors.Aborted("CONFLICT", "it moved")

    with pytest.raises(errors.Aborted):
        conflict(SYSTEM)
    assert tries == 3
    assert told == [("retried", "conflict", 1)] * 2


def test_what_no_table_explains_is_raised_as_it_is(own: Database) -> None:
    del own
    with pytest.raises(Exception, match="invalid input syntax"):
        execute("select 'no number'::integer")
    # The connection goes on.
    assert openai_models.get(SYSTEM, openai_id="gpt-5.5").name == "GPT-5.5"


def test_a_read_only_database_is_unavailable(own: Database) -> None:
    own.query(f"alter database {own.query('select current_database()')[0][0]} set default_transaction_read_only = on")
    handle.database.drop()
    with pytest.raises(errors.Unavailable) as caught:
        users.provision(SYSTEM, "user_9")
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    with pytest.raises(errors.NotFound):
        templates.get(SYSTEM, "nobody", view=View.BASIC)
