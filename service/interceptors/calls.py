"""Keeps a record of each call for those below, and sets its trailing metadata, once."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from service.call import Call, running
from service.interceptors.interceptor import Interceptor


class Calls(Interceptor):
    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        with running(Call(method.rpartition("/")[2])) as call:
            yield
        # What sets it again replaces it.
        if call.trailers:
            context.set_trailing_metadata(tuple(call.trailers.items()))
