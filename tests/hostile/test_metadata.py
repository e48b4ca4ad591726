"""Metadata that no gRPC library sends."""

from contextlib import closing

import pytest
from h2.events import ResponseReceived, TrailersReceived
from structlog.testing import capture_logs

from tests.auth.test_services import USER, XFCC
from tests.conftest import WRITER, Callers, Guarded
from tests.e2e.serving import eventually
from tests.hostile.raw import Raw

LIST = "/omniflo.templates.v1.UserService/ListUsers"


@pytest.mark.parametrize("user", ["\0", "clerk:\0", "clerk:user_\0", "user\x01", "\x7f", "user\xff"])
def test_a_user_whose_name_nobody_can_have_is_unauthenticated(callers: Callers, guarded: Guarded, user: str) -> None:
    del callers
    with capture_logs() as lines, closing(Raw(guarded.address)) as raw:
        stream = raw.open(LIST, (XFCC, f"URI={WRITER}"), (USER, user))
        raw.send(stream, b"")
        headers: dict[bytes, bytes] = {}
        while stream not in raw.ended:
            for event in raw.read(5):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    headers |= event.headers
        assert headers[b"grpc-status"] == b"16"
        (line,) = eventually(lambda: [line for line in lines if line.get("method") == LIST], within=5)
    assert (line["reason"], line["cause"]) == ("UNAUTHENTICATED", "user_unknown")
