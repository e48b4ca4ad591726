"""The world for the tests of rights."""

import pytest

from service.identity.identities import Identities
from tests.clerk_stand_in import Clerk
from tests.conftest import Database, Guarded
from tests.openai_stand_in import StandIn
from tests.rights.world import World


@pytest.fixture(scope="session")
def world_session(guarded: Guarded, clerk: Clerk, database_session: Database, emptying: Database) -> World:
    return World(guarded.channel, clerk, database_session, emptying)


@pytest.fixture
def world(world_session: World, identities: Identities, clerk: Clerk, stand_in: StandIn) -> World:
    """The world as it is at first."""
    del identities, stand_in
    clerk.is_away = False
    world_session.restore()
    return world_session


@pytest.fixture
def fresh(world: World, identities: Identities, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world as it is at first, on a server that asks anew at every call who its caller is."""
    monkeypatch.setattr(identities, "trust_seconds", 0.0)
    return world
