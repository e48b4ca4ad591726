"""A service that is attacked, and somebody who notices."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

import pytest

from tests.conftest import Database
from tests.e2e.serving import Service, eventually, key, serving
from tests.hostile import bystander
from tests.hostile.bystander import Noticed

MEGABYTE = 1024 * 1024
RECEIVE_SECONDS = 2
FILL = """
alter table templates disable trigger record_changes;
insert into templates (id, title, description, instructions, user_id, template_type_id, model_id, organization_id)
select 't' || n, 'Words of ' || n, string_agg(md5(n::text || w), ' '), 'Do it.', min(u.id), 'kind', 'gpt', 'house'
from generate_series(1, 10000) n, generate_series(1, 20) w, users u where u.clerk_id = 'user_owner' group by n;
alter table templates enable trigger record_changes
"""


class World(NamedTuple):
    """A service that asks who calls, and whom it knows."""

    service: Service
    address: str
    health: str
    owner: str
    """The key of somebody who works."""
    reader: str
    """The key of somebody who may only read."""
    searcher: str
    """The key of another one: what is ended to make room is a call of the caller who holds most."""
    caller: Connection
    """A process that runs `bystander.main`."""
    pace: float = 0.1
    """After how many seconds a connection opens others for its calls that the server has ended."""

    def auth(self, key: str) -> tuple[str, str]:
        return ("authorization", f"Bearer {key}")


@contextmanager
def few_files() -> Iterator[None]:
    """Start what is started in the block with room for 256 files, as some systems do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def world(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    url = new_database()
    folder = tmp_path_factory.mktemp("serving")
    settings = {"auth": "required", "receive_seconds": RECEIVE_SECONDS, "health_listen": "127.0.0.1:0"}
    with ExitStack() as stack:
        with few_files():
            service = stack.enter_context(serving(url, folder / "log", **settings))
        keys = key(url, "user_owner", "write"), key(url, "user_reader", "read"), key(url, "user_searcher", "read")
        database = Database(url)
        database.query("insert into template_types (id, name) values ('kind', 'kind')")
        database.query("insert into openai_models (id, openai_id, name) values ('gpt', 'gpt', 'GPT')")
        for name, instructions in (("small", "Do it."), ("large", "\U0001f680" * 256_000)):
            database.query(
                "insert into templates (id, title, instructions, user_id, template_type_id, model_id)"
                " select %s, 'A title', %s, id, 'kind', 'gpt' from users where clerk_id = 'user_owner'",
                (name, instructions),
            )
        # Of an organization that nobody of these is in.
        database.query("insert into organizations (id, name) values ('house', 'House')")
        database.query(FILL)
        database.query("analyze templates")
        database.close()
        ports = eventually(service.listeners, within=5)
        address, health = f"127.0.0.1:{ports['listen']}", f"127.0.0.1:{ports['health_listen']}"
        world = World(service, address, health, *keys, stack.enter_context(bystander.started()))
        # The first call starts the threads that calls run on.
        with others(world) as noticed:
            time.sleep(0.5)
        assert noticed.failures == []
        yield world


@contextmanager
def others(world: World) -> Iterator[Noticed]:
    """Work and probe in the block, from a process of its own; say at its end what was noticed."""
    noticed = Noticed()
    world.caller.send((world.address, world.health, world.owner))
    try:
        yield noticed
    finally:
        world.caller.send(None)
        noticed.seconds, noticed.failures, noticed.probes = world.caller.recv()
