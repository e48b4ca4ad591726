"""Messages come in and go out on threads that do nothing else meanwhile, and none of it lasts for ever.

A method with one request is taken as one with a stream of them, which grpcio lets wait for its message inside of the
call: the caller is known before its message is asked for, and the wait can be ended. Callers see no difference.
"""

import functools
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc

from service import actor, errors
from service.interceptors import logging
from service.interceptors.errors import malformed
from service.interceptors.interceptor import Interceptor, Send, behaviour_of, is_callback, taking_a_stream
from service.interceptors.outbox import Outbox

CHECK_SECONDS = 0.25
SMALL_BYTES = 4 * 1024
"""Up to this size a response holds less than its stream does."""
LARGE_BYTES = 64 * 1024
"""The size from which messages that are held are counted in bytes; smaller ones are bounded by their number."""
MAX_HELD_BYTES = 128 * 1024 * 1024
"""The most bytes of large requests that a process holds, and of large responses."""
MAX_HELD_BYTES_OF_ONE = 64 * 1024 * 1024
"""The most of them that it holds for one caller."""
MAX_UNREAD = 1_000
"""The most responses that wait to be read, of those that are not small."""
MAX_UNREAD_SMALL = 4_000
"""The most of those that are, each with its stream of about 10 KB. They are counted now and then, and not at each."""

Context = Any


class _Who(NamedTuple):
    """Whose a call is. A stranger has any number of connections, and fewer hosts: those weigh first."""

    group: str
    """The caller, or the host of one that is not known."""
    one: str
    """The caller, or the connection."""


class _Held:
    """The bytes that are held for each caller, until their call is over."""

    def __init__(self) -> None:
        self.of: Counter[_Who] = Counter()
        self._lock = threading.Lock()

    def add(self, context: Context, who: _Who, size: int) -> bool:
        """Count the bytes, and return whether all that is held is still within bounds."""
        fits = self._hold(who, size)
        if not context.add_callback(lambda: self._release(who, size)):
            self._release(who, size)
        return fits

    @contextmanager
    def holding(self, who: _Who, size: int) -> Iterator[bool]:
        """Count the bytes in the block; yield what `add` returns."""
        try:
            yield self._hold(who, size)
        finally:
            self._release(who, size)

    def _hold(self, who: _Who, size: int) -> bool:
        with self._lock:
            self.of[who] += size
            return self.of[who] <= MAX_HELD_BYTES_OF_ONE and self.of.total() <= MAX_HELD_BYTES

    def _release(self, who: _Who, size: int) -> None:
        with self._lock:
            self.of[who] -= size
            if not self.of[who]:
                del self.of[who]


class _Wait:
    """Since when a call waits, and whose it is."""

    def __init__(self, context: Context) -> None:
        self.began = time.monotonic()
        self._caller = actor.current()
        self._context = context

    @functools.cached_property
    def who(self) -> _Who:
        """Asked for only under pressure: the connection's name takes as long as all else here."""
        return _of(self._caller, self._context)


class _Sending:
    """Bounds for how long a stream's message may wait for its reader, and how many do."""

    def __init__(self, context: Context, calls: dict[Context, _Wait], bound: Callable[[], None]) -> None:
        self._context, self._calls, self._bound = context, calls, bound

    def __enter__(self) -> None:
        self._calls[self._context] = _Wait(self._context)
        self._bound()

    def __exit__(self, *_: object) -> None:
        self._calls.pop(self._context, None)


class Receiving(Interceptor):
    """Bounds how long calls wait for their messages and for their readers, how many wait, and how much they hold."""

    def __init__(
        self, limits: Mapping[str, int], *, seconds: float, most: int, most_open: int, senders: Executor
    ) -> None:
        self._limits = limits
        """The most bytes of a request, by method."""
        self._seconds = seconds
        self._most = most
        """How many calls may wait for a message at once, and how many callback streams for their readers."""
        self._most_open = most_open
        """How many callback streams there may be, which hold no thread: the next one ends another."""
        self._waiting: dict[Context, _Wait] = {}
        """The calls that wait for a message, the oldest first."""
        self._unread: dict[Context, _Wait] = {}
        """The calls with a response that is not sent yet, likewise."""
        self._small: dict[Context, _Wait] = {}
        """Those with a small one, likewise."""
        self._open: dict[Context, _Wait] = {}
        """The callback streams, likewise."""
        self._sending: dict[Context, _Wait] = {}
        """The callback streams with a message that is being sent, likewise."""
        self._senders = senders
        """Sends the messages of callback streams. It ends with this, and has a thread more than `most`."""
        self._taken, self._sent = _Held(), _Held()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiving", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._senders.shutdown()

    def wraps(self, method: str) -> bool:
        return method in self._limits

    def wrap(self, method: str, handler: Any) -> Any:
        behaviour, limit = behaviour_of(handler), self._limits[method]
        take = self._each if handler.request_streaming else self._one

        def answer(requests: Iterator[bytes], context: Context) -> bytes:
            response: bytes = behaviour(take(requests, context, limit), context)
            if len(response) <= SMALL_BYTES:
                self._hold(self._small, context)
                return response
            self._keep(self._unread, context, MAX_UNREAD)
            if len(response) > LARGE_BYTES and not self._sent.add(context, _who(context), len(response)):
                self._make_room(self._unread, self._sent.of)
            return response

        def stream(requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
            for response in behaviour(take(requests, context, limit), context):
                self._unread[context] = _Wait(context)
                try:
                    yield response
                finally:
                    self._unread.pop(context, None)

        def callback(requests: Iterator[bytes], context: Context, send_response_callback: Send) -> None:
            outbox = self._opened(context, send_response_callback)
            behaviour(take(requests, context, limit), context, outbox.put)

        taken = callback if is_callback(handler) else stream if handler.response_streaming else answer
        return taking_a_stream(handler, taken)

    def _one(self, requests: Iterator[bytes], context: Context, limit: int) -> bytes:
        message = self._wait(requests, context)
        if message is None:
            raise malformed()
        size = len(message)
        _require_size(size, limit)
        if size > LARGE_BYTES and not self._taken.add(context, _who(context), size):
            raise _holds_too_much()
        return message

    def _each(self, requests: Iterator[bytes], context: Context, limit: int) -> Iterator[bytes]:
        who = _who(context)
        while (message := self._wait(requests, context)) is not None:
            size = len(message)
            _require_size(size, limit)
            # Held until the next one is asked for, and not until the end of the call.
            with self._taken.holding(who, size) as fits:
                if size > LARGE_BYTES and not fits:
                    raise _holds_too_much()
                yield message

    def _wait(self, requests: Iterator[bytes], context: Context) -> bytes | None:
        self._waiting[context] = _Wait(context)
        self._bound(self._waiting, self._most)
        try:
            message = next(requests, None)
            if message is None and context not in self._waiting:
                # grpcio may say that no message comes before it says that the call was cancelled. Then this raises.
                over = threading.Event()
                if context.add_callback(over.set):
                    over.wait(CHECK_SECONDS)
                message = next(requests, None)
        except grpc.RpcError as error:
            # The call is over: its caller has ended it, or `_cancel` has.
            if context not in self._waiting:
                logging.add(reason="MESSAGE_LATE")
            # The call holds its error, and the frames in the error's traceback hold the call. Without this line, the
            # call takes one of the connection's hundred places until the garbage collector runs.
            error.__traceback__ = None
            raise grpc.RpcError from None
        else:
            return message
        finally:
            self._waiting.pop(context, None)

    def _opened(self, context: Context, send: Send) -> Outbox:
        sending = functools.partial(_Sending, context, self._sending, self._bound_sending)
        outbox = Outbox(self._senders, send, sending, context.cancel)
        if not context.add_callback(outbox.close):
            outbox.close()
        self._keep(self._open, context, self._most_open)
        return outbox

    def _keep(self, calls: dict[Context, _Wait], context: Context, most: int) -> None:
        """Have the call among these until it is over, and no more of them than so many."""
        self._hold(calls, context)
        self._bound(calls, most)

    def _hold(self, calls: dict[Context, _Wait], context: Context) -> None:
        calls[context] = _Wait(context)
        if not context.add_callback(lambda: calls.pop(context, None)):
            calls.pop(context, None)

    def _bound(self, calls: dict[Context, _Wait], most: int) -> None:
        """End one of these calls if there are too many."""
        # Where another thread has just ended the one that this one chose, it chooses again.
        while len(calls) > most and not self._make_room(calls, Counter(wait.who for wait in list(calls.values()))):
            pass

    def _bound_sending(self) -> None:
        self._bound(self._sending, self._most)

    def _make_room(self, calls: dict[Context, _Wait], weights: Counter[_Who]) -> bool:
        """End the oldest of these calls of the caller that weighs most, and return whether there was one."""
        groups = _grouped(weights)
        # There is none when their calls have just ended.
        worst = max(weights, key=lambda who: (groups[who.group], weights[who]), default=None)
        return any(wait.who == worst and self._cancel(calls, context) for context, wait in calls.copy().items())

    def _cancel(self, calls: dict[Context, _Wait], context: Context) -> bool:
        """Cancel the call, unless it is not among these any more."""
        was_there = calls.pop(context, None) is not None
        if was_there:
            context.cancel()
        return was_there

    def _run(self) -> None:
        while not self._stopped.wait(CHECK_SECONDS):
            since = time.monotonic() - self._seconds
            for calls in (self._waiting, self._unread, self._small, self._sending):
                # The copy is made at once. While a list of its items is made, the garbage collector lets others run.
                for context, wait in calls.copy().items():
                    if wait.began > since:
                        break
                    self._cancel(calls, context)
            if len(self._small) > MAX_UNREAD_SMALL:
                self._bound_small()

    def _bound_small(self) -> None:
        """End the oldest small responses of each caller that has more of them than its part."""
        waits = self._small.copy()
        counts = Counter(wait.who for wait in waits.values())
        groups, members = _grouped(counts), Counter(who.group for who in counts)
        part = max(1, MAX_UNREAD_SMALL // max(1, len(groups)))
        for is_last in (False, True):
            for context, wait in waits.items():
                who = wait.who
                # Connections of one host share its part. If there are more than that, the oldest ones go.
                least = 0 if is_last else max(1, part // members[who.group])
                if groups[who.group] > part and counts[who] > least and context in self._small:
                    groups[who.group] -= 1
                    counts[who] -= 1
                    self._cancel(self._small, context)


def _require_size(size: int, limit: int) -> None:
    if size > limit:
        raise errors.ResourceExhausted(
            "REQUEST_TOO_LARGE", "no request of the method may be as large", {"limit": str(limit)}
        )


def _holds_too_much() -> errors.ResourceExhausted:
    return errors.ResourceExhausted("OVERLOADED", "the server holds too many bytes of requests", retry_seconds=1.0)


def _grouped(weights: Counter[_Who]) -> Counter[str]:
    groups: Counter[str] = Counter()
    for who, weight in weights.items():
        groups[who.group] += weight
    return groups


def _who(context: Context) -> _Who:
    return _of(actor.current(), context)


def _of(caller: actor.Actor, context: Context) -> _Who:
    """Return whose call it is: the caller's, or the connection's of one that has not been authenticated."""
    if caller is not actor.ANONYMOUS and caller is not actor.NOBODY:
        return _Who(caller.name, caller.name)
    peer = context.peer()
    return _Who(_host(peer), peer)


def _host(peer: str) -> str:
    """Return the host of `ipv4:192.0.2.1:port`; of `ipv6:%5B2001:db8::1%5D:port` the network, all of it one host's."""
    host = peer.rpartition(":")[0]
    if not host.startswith("ipv6:"):
        return host
    address = host.removeprefix("ipv6:").removeprefix("%5B").removesuffix("%5D").strip("[]").partition("%")[0]
    return str(ipaddress.IPv6Network(f"{address}/64", strict=False))
