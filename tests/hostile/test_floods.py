"""Floods of frames that no client sends: others notice nothing of them."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle, islice

import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, RstStreamFrame, SettingsFrame

from tests.e2e.serving import eventually
from tests.hostile.conftest import MEGABYTE, World, others
from tests.hostile.raw import CHECK, GET

pytestmark = pytest.mark.timed

CANCEL = 8


def resets(world: World, path: str) -> list[Frame]:
    """Return 10,000 calls, each of which is cancelled at once."""
    return [
        frame
        for stream in range(1, 20_001, 2)
        for frame in (_headers(world, path, stream, "END_HEADERS"), RstStreamFrame(stream, CANCEL))
    ]


def _headers(world: World, path: str, stream: int, *flags: str) -> Frame:
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", world.address),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        world.auth(world.reader),
    ]
    return HeadersFrame(stream, Encoder().encode(headers), flags=flags)


FLOODS: dict[str, Callable[[World], list[Frame]]] = {
    "resets": lambda world: resets(world, GET),
    "resets of probes": lambda world: resets(world, CHECK),
    "settings": lambda _: list(islice(cycle(SettingsFrame(0, settings={4: 65_535 + more}) for more in (0, 1)), 20_000)),
    "continuations": lambda world: [
        _headers(world, GET, 1),
        *(ContinuationFrame(1, Encoder().encode([(f"x-{number}", "v" * 50)])) for number in range(20_000)),
    ],
    "empty continuations": lambda world: [_headers(world, GET, 1), *[ContinuationFrame(1)] * 20_000],
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("reads", [True, False])
def test_others_notice_nothing_of_a_flood(world: World, flood: str, reads: bool) -> None:
    frames = [frame.serialize() for frame in FLOODS[flood](world)]
    before = world.service.memory()
    host, _, port = world.address.rpartition(":")
    with others(world) as noticed, socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        # The server may end the connection, or take no more from it.
        with suppress(TimeoutError, ConnectionError):
            for start in range(0, len(frames), 100):
                connection.settimeout(2)
                connection.sendall(b"".join(frames[start : start + 100]))
                connection.settimeout(0.001)
                with suppress(TimeoutError):
                    while reads and connection.recv(65_536):
                        pass
        time.sleep(0.5)
    assert noticed.failures == []
    assert max(noticed.seconds) < 1
    assert max(noticed.probes) < 1
    eventually(lambda: world.service.memory() - before < 50 * MEGABYTE, within=5)
