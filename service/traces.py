"""Traces: what a call of ours is a part of elsewhere, and who is told of what it does. Without a tracer, nobody is."""

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

HEADER = "traceparent"
STATE = "tracestate"
MAX_STATE = 512

# Of https://www.w3.org/TR/trace-context/: no version ff, no id of zeros, and all in lower case. What follows in later
# versions is not known yet.
_FORMAT = re.compile("(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")


class Parent(NamedTuple):
    """The caller's span, as its call names it."""

    trace_id: str
    span_id: str
    is_sampled: bool
    state: str = ""
    """What systems for tracing have added, for others of their kind."""


class Span(Protocol):
    """What is told of a call."""

    fields: Mapping[str, str]
    """What the line of the call has of it."""

    def enter(self) -> None:
        """Be what the current thread works on, until `leave`."""

    def leave(self) -> None: ...

    def end(self, code: str, fields: Mapping[str, Any]) -> None: ...


class Tracer(Protocol):
    def call(self, method: str, parent: Parent | None) -> Span:
        """Begin the span of a call, by its full path."""

    def work(self, name: str) -> AbstractContextManager[None]:
        """Return the span of what no caller waits for."""

    def request(self, name: str, headers: MutableMapping[str, str]) -> Callable[[str], None]:
        """Begin the span of a request to another service, which its headers name; return what ends it, by outcome."""


_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Have this process tell somebody else, or nobody."""
    global _tracer  # noqa: PLW0603 - a process has one
    _tracer = tracer


def tracer() -> Tracer | None:
    return _tracer


def parent_of(metadata: Sequence[tuple[str, str | bytes]]) -> Parent | None:
    """Return the span that the caller names, if it does so once and as it should."""
    if HEADER not in dict(metadata):
        return None
    found: Any = None
    state: list[str] = []
    for key, value in metadata:
        if key == HEADER:
            if found is not None or not isinstance(value, str):
                return None
            found = value
        elif key == STATE and isinstance(value, str):
            state.append(value)
    match = _FORMAT.fullmatch(found)
    if match is None or (match[1] == "00" and match[5] is not None):
        return None
    told = ",".join(state)
    return Parent(match[2], match[3], bool(int(match[4], 16) & 1), told if len(told) <= MAX_STATE else "")


def work(name: str) -> AbstractContextManager[None]:
    """Return the span of what no caller waits for."""
    return nullcontext() if _tracer is None else _tracer.work(name)


def request(name: str, headers: MutableMapping[str, str]) -> Callable[[str], None]:
    """Begin the span of a request to another service; return what ends it, by the outcome, at the first call."""
    return (lambda _: None) if _tracer is None else _tracer.request(name, headers)


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """Return what does the same on another thread, as a part of what this one works on."""
    if _tracer is None:
        return function
    context = copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.run(function, *args, **kwargs)

    return run
