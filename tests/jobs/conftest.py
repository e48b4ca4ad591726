"""A queue of jobs of its own for each test."""

from collections.abc import Callable, Iterator

import pytest

from service.database import migrate
from tests.conftest import Database, as_service
from tests.jobs.ticking import TABLE
from tests.migrations.conftest import working_on

EMPTY = (
    "delete from procrastinate_jobs; delete from procrastinate_workers; delete from job_schedule;"
    " delete from job_reports; truncate done"
)


@pytest.fixture(scope="module")
def jobs_url(new_database: Callable[[], str], url: str) -> str:
    """The URL of a migrated database, for its owner, in which no other worker runs jobs."""
    made = new_database()
    with working_on(made, afterwards=url):
        migrate.up(migrate.load(), role="omniflo_service")
    database = Database(made)
    database.query(f"{TABLE}; grant select, insert on done to omniflo_service")
    database.close()
    return made


@pytest.fixture
def queue(jobs_url: str, url: str) -> Iterator[Database]:
    """The database with an empty queue, which this thread, and the workers of this process, work on as they serve."""
    database = Database(jobs_url)
    database.query(EMPTY)
    with working_on(as_service(jobs_url), afterwards=url):
        yield database
    database.close()
