"""The call that is running: what is written down of it, also far below the edge."""

from contextvars import ContextVar

from service.positions import Write


class Call:
    """A call, or a command."""

    request_id: str = ""
    message: str = ""
    """Why it writes, as its caller says."""
    write: Write | None = None
    """The last transaction of the call that was committed."""
    repeated: Write | None = None
    """The one that made the response, if the call is a retry of that."""

    def __init__(self, method: str = "") -> None:
        self.method = method
        """Its name alone, such as `UpdateTemplate`."""
        self.trailers: dict[str, str] = {}
        """The trailing metadata of its response."""


_current: ContextVar[Call | None] = ContextVar("call", default=None)


class running:  # noqa: N801 - used as a function; one made of a generator takes three times as long
    """Make a call the current one in the block."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Call:
        self._reset = _current.set(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        _current.reset(self._reset)


def current() -> Call:
    """Return the call that is running; where none is, one of which nothing is known."""
    return _current.get() or Call()
