"""Responses from the cache: looked up by the bytes of the request, for a caller with the same rights."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import grpc

from service import actor, call, errors
from service.cache import AWAY_SECONDS, Cache, watching
from service.deadline import time_limit
from service.interceptors import consistency, logging
from service.interceptors.interceptor import Interceptor, behaviour_of, like

STALE = "x-omniflo-stale-seconds"
_DAY_SECONDS = 86400
_DIGEST_SIZE = 32


class Caching(Interceptor):
    """Keeps the encoded responses of `consistency.METHODS`: on a hit, nothing below this interceptor runs."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @contextmanager
    def around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """State seen by uncached methods also invalidates."""
        del method, context
        with watching() as seen:
            yield
        self._cache.note(seen)

    def wrap(self, method: str, handler: Any) -> Any:
        if method not in consistency.METHODS:
            return super().wrap(method, handler)
        behaviour = behaviour_of(handler)

        def make(key: object, data: bytes, context: grpc.ServicerContext) -> bytes:
            began = self._cache.begin()
            with watching() as seen:
                answer: bytes = behaviour(data, context)
            self._cache.note(seen)
            self._cache.put(key, answer, seen, began)
            return answer

        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            wanted, write = consistency.of(context)
            if write is not None and not self._cache.has_seen(write):
                wanted = consistency.STRONG
            # What the caller may read is part of the key. So is the day: renderings warn by it.
            day = int(time.time()) // _DAY_SECONDS
            asked = data if len(data) <= _DIGEST_SIZE else blake2b(data, digest_size=_DIGEST_SIZE).digest()
            key = (method, asked, actor.current().reads, day)
            if wanted == consistency.STRONG:
                self._cache.pass_by()
            elif (known := self._cache.get(key)) is not None:
                logging.add(cached=True)
                return known
            if wanted != consistency.AVAILABLE or self._cache.is_live():
                return make(key, data, context)
            try:
                with time_limit(AWAY_SECONDS):
                    return make(key, data, context)
            except (errors.Unavailable, errors.DeadlineExceeded):
                last = self._cache.last_known(key)
                if last is None:
                    raise
            known, age = last
            call.current().trailers[STALE] = str(int(age) + 1)
            logging.add(cached=True, stale_seconds=round(age, 3))
            return known

        return like(handler, answer)
