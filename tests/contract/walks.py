"""Walks over the pages of a list."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

R = TypeVar("R")

MOST = 100


def walk(call: Callable[[Any], R], request: Any) -> Iterator[R]:
    """Answer page after page to the last, which must come."""
    asked = type(request)()
    asked.CopyFrom(request)
    for _ in range(MOST):
        page: Any = call(asked)
        yield page
        if not page.next_page_token:
            return
        asked.page_token = page.next_page_token
    raise AssertionError("a walk that does not end")
