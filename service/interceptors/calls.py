"""Keeps a record of each call for those below, and sets its trailing metadata, once."""

from contextlib import AbstractContextManager

import grpc

from service.call import Call, running
from service.interceptors.interceptor import Interceptor


class Calls(Interceptor):
    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[object]:
        return _Recorded(method, context)


class _Recorded(running):
    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        super().__init__(Call(method[method.rindex("/") + 1 :]))
        self._context = context

    def __exit__(self, *fault: object) -> None:
        super().__exit__()
        # What sets it again replaces it.
        if fault[0] is None and self._call.trailers:
            self._context.set_trailing_metadata(tuple(self._call.trailers.items()))
