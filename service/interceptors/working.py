"""As many calls work at once as there are connections. One that waits for a message or a slow reader does not work."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import grpc

from service.database.slots import working
from service.interceptors.interceptor import Interceptor, behaviour_of, is_callback, like


class Working(Interceptor):
    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        del method, context
        return working()

    def wrap(self, method: str, handler: Any) -> Any:
        if is_callback(handler) or not (handler.request_streaming or handler.response_streaming):
            return super().wrap(method, handler)
        behaviour = behaviour_of(handler)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            # Each step to the next message is work; between them others have the connection.
            messages = iter(behaviour(request, context))
            while True:
                with working():
                    message = next(messages, None)
                if message is None:
                    return
                yield message

        # A method that takes a stream works when its operations do.
        return like(handler, stream if handler.response_streaming else behaviour)
