"""The header in which a proxy says whose certificate it saw: Envoy's x-forwarded-client-cert. Pure."""

import re
from collections.abc import Sequence

HEADER = "x-forwarded-client-cert"

_PAIR = re.compile(r'(?P<key>[A-Za-z]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",;=\\]*))(?P<end>;|,|$)')


def names(values: Sequence[str]) -> list[str]:
    """Answer the SPIFFE URIs and DNS names of the one certificate that the header is about.

    ValueError when the header does not stand exactly once, is no such header, is about several certificates, or names
    several URIs: a proxy that replaces it, as SANITIZE_SET makes Envoy do, sends nothing of the kind.
    """
    (value,) = values
    pairs: list[tuple[str, str]] = []
    position = 0
    while not pairs or position < len(value):
        match = _PAIR.match(value, position)
        if match is None or match["end"] == ",":
            raise ValueError("not one element")
        quoted = match["quoted"]
        pairs.append((match["key"].lower(), match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)))
        position = match.end()
    if value.endswith(";"):
        raise ValueError("an empty pair")
    uris = [text for key, text in pairs if key == "uri" and text]
    if len(uris) > 1:
        raise ValueError("several URIs")
    return uris + [text for key, text in pairs if key == "dns" and text]
