"""A caller that watches changes, and goes on where it was cut."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_status import rpc_status

from omniflo.templates.v1.change_pb2 import Change
from omniflo.templates.v1.change_service_pb2 import WatchChangesRequest, WatchChangesResponse
from omniflo.templates.v1.change_service_pb2_grpc import ChangeServiceStub
from tests.conftest import Failure
from tests.e2e.serving import eventually

SECONDS = 20.0
RESUMED = {"UNAVAILABLE", "CANCELLED", "INTERNAL"}
"""With what streams end that are resumed: the last two are gRPC's own for a process that is killed."""


class Watcher:
    """Reads a stream on a thread, and opens another with the last token when it ends."""

    def __init__(self, channel: grpc.Channel, **request: Any) -> None:
        self._stub = ChangeServiceStub(channel)
        self._request = WatchChangesRequest(**request)
        self.changes: list[Change] = []
        """What came up to the last token."""
        self.responses: list[WatchChangesResponse] = []
        self.ends: list[tuple[str, str]] = []
        """The code and the reason with which each stream ended."""
        self._pending: list[Change] = []
        self._stopped = False
        self._call: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        eventually(lambda: self.token or not self._thread.is_alive(), within=SECONDS)
        assert self.token, self.ends

    def stop(self) -> None:
        self._stopped = True
        self.cut()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()

    @property
    def token(self) -> str:
        return self._request.resume_token

    def cut(self) -> None:
        """End the stream that is open."""
        if self._call is not None:
            self._call.cancel()

    def ids(self) -> list[str]:
        return [change.resource_id for change in self.changes]

    def _run(self) -> None:
        while not self._stopped:
            self._call = self._stub.WatchChanges(self._request, wait_for_ready=True)
            # What came after the last token comes again.
            self._pending = []
            try:
                for response in self._call:
                    self._take(response)
            except grpc.RpcError as error:
                if self._stopped:
                    return
                # gRPC itself gives no details.
                reason = Failure(error).reason if rpc_status.from_call(error) is not None else ""
                self.ends.append((error.code().name, reason))
                if error.code().name not in RESUMED:
                    return

    def _take(self, response: WatchChangesResponse) -> None:
        self.responses.append(response)
        self._pending += response.changes
        if response.resume_token:
            self.changes += self._pending
            self._pending = []
            self._request.resume_token = response.resume_token


@contextmanager
def watching(channel: grpc.Channel, **request: Any) -> Iterator[Watcher]:
    """Watch for the time of the block, in which everything will be told."""
    watcher = Watcher(channel, **request)
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()
