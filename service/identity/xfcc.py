"""Envoy's header x-forwarded-client-cert, in which a proxy names the certificate of its caller. Pure."""

import functools
import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from service.identity.certificates import dns_names_in, uris_in

HEADER = "x-forwarded-client-cert"

_PAIR = re.compile(r'(?P<key>[A-Za-z]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",;=\\]*))(?P<end>;|$)')
_ORDER = ("by", "hash", "cert", "chain", "subject", "uri", "dns")
"""In which Envoy writes the keys; each of them once but for `by` and `dns`."""
_SEVERAL = {"by", "dns"}
_QUOTED = {"cert", "chain", "subject"}
"""The keys whose values Envoy quotes. Quotes around another belong to the value, and no name has any."""


def names(values: Sequence[str]) -> Sequence[str]:
    """Return the URIs of the certificate that the header is about, or the DNS names of one without URIs.

    ValueError when the header occurs more than once, is malformed, or can be read in two ways. Envoy neither quotes nor
    escapes a name, so one may hold `;` and look like several. What cannot is the certificate itself, as `Cert`, which
    stands before all names: where it is, it is what counts. Without it, there must be one name, and nothing after it.
    """
    (value,) = values
    return _names(value)


@functools.lru_cache(1024)
def _names(value: str) -> Sequence[str]:
    pairs = _pairs(value)
    # Also those without a value: a name that begins with `;` leaves its own key empty.
    keys = [key for key, _ in pairs]
    if sorted(keys, key=_ORDER.index) != keys:
        raise ValueError("keys in another order than Envoy's")
    if any(keys.count(key) > 1 for key in _ORDER if key not in _SEVERAL):
        raise ValueError("several values of a key that has one")
    found = dict(pairs)
    if "cert" in found:
        pem = unquote_to_bytes(found["cert"])
        return uris_in(pem) or dns_names_in(pem)
    claimed = [text for key, text in pairs if key in {"uri", "dns"}]
    if claimed in ([], [""]):
        return ()
    if len(claimed) > 1 or not claimed[0]:
        raise ValueError("several names, or one that looks like several")
    return tuple(claimed)


def _pairs(value: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    position = 0
    while not pairs or position < len(value):
        match = _PAIR.match(value, position)
        key = "" if match is None else match["key"].lower()
        if match is None or key not in _ORDER or (match["plain"] is None) != (key in _QUOTED):
            raise ValueError("not one element of Envoy's")
        # Of those that are quoted only the certificate is looked at, in which nothing is escaped.
        pairs.append((key, match["quoted"] if key in _QUOTED else match["plain"]))
        position = match.end()
    if value.endswith(";"):
        raise ValueError("an empty pair")
    return pairs
