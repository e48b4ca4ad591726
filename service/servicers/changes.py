"""ChangeService: what happened, as it happens and afterwards."""

import functools
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cachetools import LRUCache
from google.protobuf.duration_pb2 import Duration
from grpc import ServicerContext

from omniflo.templates.v1.change_pb2 import Change
from omniflo.templates.v1.change_service_pb2 import (
    ListChangesRequest,
    ListChangesResponse,
    WatchChangesRequest,
    WatchChangesResponse,
)
from omniflo.templates.v1.change_service_pb2_grpc import ChangeServiceServicer
from service import actor
from service.operations import changes
from service.operations.watch import Filter, Watch
from service.operations.watches import Watches
from service.positions import Position
from service.servicers import decode, encode, pages

HEARTBEAT_SECONDS = 5.0
MAX_MESSAGES = 1_000
"""How many encoded changes are kept for other watches."""


_UNKNOWN = WatchChangesResponse()


class ChangeServicer(ChangeServiceServicer):
    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._messages: LRUCache[object, Change] = LRUCache(MAX_MESSAGES)
        self._lock = threading.Lock()
        self._last: tuple[Position, WatchChangesResponse] | None = None

    def WatchChanges(  # type: ignore[override]
        self, request: WatchChangesRequest, context: ServicerContext, send: Callable[[Any], None]
    ) -> None:
        """Open a stream and return: its messages are sent by other threads, as their reader has room for them."""
        filter = Filter(
            frozenset(map(decode.change_kind, request.kinds)), request.organization_id, frozenset(request.resource_ids)
        )
        watch = self._watches.open(
            actor.current(),
            filter,
            token=request.resume_token,
            heartbeat=_seconds(request.heartbeat) if request.HasField("heartbeat") else HEARTBEAT_SECONDS,
            wake=lambda watch: send(functools.partial(self._response, watch, request.include_values)),
            end=send,
        )
        if not context.add_callback(lambda: self._watches.close(watch)):
            self._watches.close(watch)

    WatchChanges.experimental_non_blocking = True  # type: ignore[attr-defined]

    def ListChanges(self, request: ListChangesRequest, context: ServicerContext) -> ListChangesResponse:
        page = changes.page(
            actor.current(),
            kinds=[decode.change_kind(kind) for kind in request.kinds],
            resource_id=request.resource_id,
            organization_id=request.organization_id,
            by=request.actor,
            method=request.method,
            start_time=decode.time(request, "start_time"),
            end_time=decode.time(request, "end_time"),
            after=pages.after(request, datetime, int),
            size=pages.size(request),
        )
        return ListChangesResponse(
            changes=[encode.change(row, audits=True, values=True) for row in page.rows],
            next_page_token=pages.token(request, page),
            begin_time=encode.timestamp(changes.begin_time(actor.current())),
        )

    def _response(self, watch: Watch, values: bool) -> WatchChangesResponse | None:
        told = watch.next()
        if told is None:
            return None
        reached = _UNKNOWN if told.position is None else self._reached(told.position)
        if not told.changes and not told.is_behind:
            return reached
        return WatchChangesResponse(
            changes=[self._encoded(change, watch.sight.audits(change), values) for change in told.changes],
            resume_token=reached.resume_token,
            time=reached.time if reached.HasField("time") else None,
            is_behind=told.is_behind,
        )

    def _reached(self, position: Position) -> WatchChangesResponse:
        """Return the message of a position alone, which most watches are told at the same time."""
        last = self._last
        if last is None or last[0] is not position:
            message = WatchChangesResponse(resume_token=position.token(), time=encode.timestamp(position.time))
            last = self._last = position, message
        return last[1]

    def _encoded(self, change: changes.Change, audits: bool, values: bool) -> Change:
        """Encode a change once for all who are shown the same of it."""
        key = change.seq, change.time, audits, values
        with self._lock:
            encoded = self._messages.get(key)
        if encoded is None:
            encoded = encode.change(change, audits=audits, values=values)
            with self._lock:
                self._messages[key] = encoded
        return encoded


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
