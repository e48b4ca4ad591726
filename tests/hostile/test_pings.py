"""Pings: a client may keep its connection with them, and who floods the service with them is sent away."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server
from h2.errors import ErrorCodes
from hyperframe.frame import Frame, GoAwayFrame, PingFrame, SettingsFrame

from service.server import listening
from service.server.health import Health

SECONDS = 20.0
CLIENT_PING_SECONDS = 10.0
"""The most often that clients in Go and Java send pings."""
FASTER = 20
"""How much faster time runs here."""


@contextmanager
def listener() -> Iterator[int]:
    """Serve health for the time of the block, and yield the port."""
    running = listening.Listening([ThreadPoolExecutor(2)])
    add_HealthServicer_to_server(Health([]), running.server)
    port = running.add("127.0.0.1:0")
    running.start()
    yield port
    running.stop()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a listener on which time runs faster, and a connection is old after eight pings of its client."""
    options = {name: value // FASTER if name.endswith("_ms") else value for name, value in listening._OPTIONS.items()}
    options["grpc.max_connection_age_ms"] = int(8 * CLIENT_PING_SECONDS * 1000 / FASTER)
    monkeypatch.setattr(listening, "_OPTIONS", options)
    with listener() as port:
        yield port


def goaway(port: int, ping_seconds: float) -> tuple[ErrorCodes, bytes]:
    """Open a connection, send nothing on it but a ping every so often, and return how the server ends it."""
    ended = threading.Event()
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection, connection.makefile("rb") as received:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())

        def ping() -> None:
            while not ended.wait(ping_seconds):
                try:
                    connection.sendall(PingFrame(0, bytes(8)).serialize())
                except ConnectionError:
                    return

        thread = threading.Thread(target=ping)
        thread.start()
        try:
            while True:
                frame, size = Frame.parse_frame_header(memoryview(received.read(9)))
                frame.parse_body(memoryview(received.read(size)))
                if isinstance(frame, GoAwayFrame):
                    return ErrorCodes(frame.error_code), frame.additional_data
                if isinstance(frame, PingFrame) and "ACK" not in frame.flags:
                    connection.sendall(PingFrame(0, frame.opaque_data, flags=["ACK"]).serialize())
        finally:
            ended.set()
            thread.join()


def test_an_idle_connection_with_pings_is_kept_and_then_ended_without_an_error(port: int) -> None:
    assert goaway(port, CLIENT_PING_SECONDS / FASTER) == (ErrorCodes.NO_ERROR, b"max_age")


def test_the_next_call_of_an_idle_client_opens_another_connection(port: int) -> None:
    options = [
        ("grpc.keepalive_time_ms", int(CLIENT_PING_SECONDS * 1000 / FASTER)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]

    async def call_twice() -> None:
        # The thread in which a channel of the other kind watches its connection may fail when the channel is closed.
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            check = HealthStub(channel).Check
            await check(HealthCheckRequest(), timeout=SECONDS)
            while (state := channel.get_state()) is not grpc.ChannelConnectivity.IDLE:
                await asyncio.wait_for(channel.wait_for_state_change(state), SECONDS)
            await check(HealthCheckRequest(), timeout=SECONDS)

    asyncio.run(call_twice())


def test_a_flood_of_pings_ends_the_connection() -> None:
    with listener() as port:
        assert goaway(port, 0) == (ErrorCodes.ENHANCE_YOUR_CALM, b"too_many_pings")
