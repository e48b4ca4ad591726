"""Turns errors into statuses, and malformed requests into an error."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status

from service import errors, logs, statuses
from service.database.transactions import sqlstate
from service.interceptors import logging
from service.interceptors.interceptor import Interceptor, Send

_log = structlog.get_logger()


class Errors(Interceptor):
    def wraps(self, method: str) -> bool:
        del method
        return True

    def around(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
        return _Mapping(method, context)

    @contextmanager
    def opening(self, method: str, context: grpc.ServicerContext, send: Send) -> Iterator[Send]:
        add = logging.adding()
        # A call gets one status. grpcio would wait for a second one for ever, and its server would never end.
        status_of_call = threading.Lock()

        def sending(message: Any) -> None:
            if message is not None and not isinstance(message, errors.Error):
                send(message)
            elif status_of_call.acquire(blocking=False):
                if message is not None:
                    add(**_fields(message))
                    # Once the method has returned, nothing may be raised any more.
                    status = rpc_status.to_status(statuses.of(message))
                    context.set_trailing_metadata(status.trailing_metadata)
                    context.set_code(status.code)
                    context.set_details(status.details)
                send(None)

        with self.around(method, context):
            try:
                yield sending
            except Exception as fault:
                if status_of_call.acquire(blocking=False):
                    raise
                if not isinstance(fault, grpc.RpcError):
                    # The caller has a status already. A fault of the service is still logged.
                    failure_of(method, fault)


class _Mapping:
    """Ends a call with a status where the block raises."""

    def __init__(self, method: str, context: grpc.ServicerContext) -> None:
        self._method = method
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, fault: BaseException | None, _traceback: object) -> None:
        if not isinstance(fault, Exception):
            return
        if isinstance(fault, grpc.RpcError):
            # The call is over: its caller has ended it, or the service. This raises, and grpcio sends nothing any more.
            self._context.abort(grpc.StatusCode.CANCELLED, "")
        failure = failure_of(self._method, fault)
        logging.add(**_fields(failure))
        # Raises: that is how grpcio learns that the call is over.
        self._context.abort_with_status(rpc_status.to_status(statuses.of(failure)))


def failure_of(method: str, fault: Exception) -> errors.Error:
    """Return what a caller is told of a fault. One that no caller can mend is logged, and is one sentence to them."""
    if isinstance(fault, errors.Error):
        return fault
    error_id = secrets.token_hex(4)
    _log.error("fault", method=method, error_id=error_id, sqlstate=sqlstate(fault), **logs.described(fault))
    return errors.Internal(
        "INTERNAL", "a fault of the service; its log has more under the error_id", {"error_id": error_id}
    )


def _fields(failure: errors.Error) -> dict[str, str]:
    """Return what the line of a call has of an error."""
    return {"reason": failure.reason} | (
        {"cause": failure.cause} if isinstance(failure, errors.Unauthenticated) else {}
    )


def malformed() -> errors.InvalidArgument:
    return errors.InvalidArgument("REQUEST_MALFORMED", "the bytes are not a message of the request's type")
