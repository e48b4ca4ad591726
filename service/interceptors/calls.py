"""Keeps a record of each call, for those below."""

from contextlib import AbstractContextManager

import grpc

from service.call import Call, running
from service.interceptors.interceptor import Interceptor


class Calls(Interceptor):
    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[Call]:  # type: ignore[override]
        del context
        return running(Call(method.rpartition("/")[2]))
