"""The time that a call has: the caller's deadline, at most the longest that the service allows."""

from contextlib import AbstractContextManager

import grpc

from service import errors
from service.deadline import time_limit
from service.interceptors.interceptor import Interceptor


class Deadlines(Interceptor):
    def __init__(self, longest_seconds: float, longest_stream_seconds: float) -> None:
        self._longest = longest_seconds
        self._longest_stream = longest_stream_seconds

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        del method
        return _limit(context, self._longest)

    def around_stream(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        del method
        return _limit(context, self._longest_stream)


def _limit(context: grpc.ServicerContext, longest: float) -> AbstractContextManager[None]:
    remaining = context.time_remaining()
    # Its caller may have given up while it waited in the queue.
    if not context.is_active() or (remaining is not None and remaining <= 0):
        raise errors.deadline_exceeded()
    return time_limit(longest if remaining is None else min(remaining, longest))
