"""The thread that watches the database: whatever it meets, it goes on."""

import pytest
from structlog.testing import capture_logs

from service.errors import Unavailable
from service.operations import maintenance
from service.server import wiring


@pytest.mark.parametrize("fault", [LookupError("a fault of ours"), Unavailable("DATABASE_UNAVAILABLE", "away")])
def test_a_probe_that_fails_in_any_way_is_a_database_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def ping(_: object) -> None:
        raise fault

    monkeypatch.setattr(maintenance, "ping", ping)
    with capture_logs() as lines:
        assert not wiring._is_reachable()
    assert [line["error"] for line in lines] == (["LookupError"] if isinstance(fault, LookupError) else [])
