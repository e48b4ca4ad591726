"""Answers from the cache: looked up by the bytes of the request, for a caller of the same rights."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service import actor, errors
from service.cache import Cache, watching
from service.db import time_limit
from service.interceptors import logging
from service.interceptors.errors import malformed
from service.interceptors.interceptor import Interceptor

CONSISTENCY = "x-omniflo-consistency"
AVAILABLE = "available"
STALE = "x-omniflo-stale-seconds"
METHODS = frozenset(
    f"/omniflo.templates.v1.{name}"
    for name in (
        "TemplateService/GetTemplate",
        "TemplateService/BatchGetTemplates",
        "TemplateService/RenderTemplate",
        "SelectionService/ResolveTemplate",
    )
)
AWAY_SECONDS = 0.5
"""How long a caller who takes what was last known waits for a database that does not answer."""

_DAY_SECONDS = 86400


class Caching(Interceptor):
    """Keeps the encoded answers of METHODS: what is inside of it is not even called for a known request."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Let what other methods have seen count, too."""
        del method, context
        with watching() as seen:
            yield
        self._cache.note(seen)

    def wrap(self, method: str, handler: Any) -> Any:
        if method not in METHODS:
            return super().wrap(method, handler)
        parse, encode, behaviour = handler.request_deserializer, handler.response_serializer, handler.unary_unary

        def make(key: object, data: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                request = parse(data)
            except DecodeError:
                raise malformed() from None
            began = self._cache.begin()
            with watching() as seen:
                answer: bytes = encode(behaviour(request, context))
            self._cache.note(seen)
            self._cache.put(key, answer, seen, began)
            return answer

        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            consistency = _consistency(context)
            caller = actor.current()
            # What the caller may read is a part of the key. A rendering warns by the day.
            day = int(time.time()) // _DAY_SECONDS
            key = (method, data, caller.is_trusted, caller.user_id, caller.organization_id, day)
            if consistency != "strong" and (known := self._cache.get(key)) is not None:
                logging.add(cached=True)
                return known
            if consistency != AVAILABLE or self._cache.is_live():
                return make(key, data, context)
            try:
                with time_limit(AWAY_SECONDS):
                    return make(key, data, context)
            except (errors.Unavailable, errors.DeadlineExceeded):
                last = self._cache.last_known(key)
                if last is None:
                    raise
            known, age = last
            context.set_trailing_metadata(((STALE, str(int(age) + 1)),))
            logging.add(cached=True, stale_seconds=round(age, 3))
            return known

        return grpc.unary_unary_rpc_method_handler(answer)


def _consistency(context: grpc.ServicerContext) -> str:
    values = [value for key, value in context.invocation_metadata() if key == CONSISTENCY]
    if not values:
        return "default"
    if len(values) != 1 or values[0] not in {"default", "strong", AVAILABLE}:
        raise errors.field_invalid((CONSISTENCY, "must be default, strong or available"))
    return str(values[0])
