"""The world for the tests of rights."""

import grpc
import pytest

from service.identity import identities
from tests.clerk_stand_in import Clerk
from tests.conftest import Database
from tests.openai_stand_in import StandIn
from tests.rights.world import World


@pytest.fixture(scope="session")
def world_session(guarded: grpc.Channel, clerk: Clerk, database_session: Database) -> World:
    return World(guarded, clerk, database_session)


@pytest.fixture
def world(world_session: World, clerk: Clerk, stand_in: StandIn) -> World:
    """The world as it is at first."""
    del stand_in
    clerk.is_away = False
    world_session.restore()
    return world_session


@pytest.fixture
def fresh(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world as it is at first, on a server that asks anew at every call who its caller is."""
    monkeypatch.setattr(identities, "TRUST_SECONDS", 0.0)
    return world
