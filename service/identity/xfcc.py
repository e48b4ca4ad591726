"""Envoy's header x-forwarded-client-cert, in which a proxy names the certificate of its caller. Pure."""

import re
from collections.abc import Sequence

HEADER = "x-forwarded-client-cert"

_PAIR = re.compile(r'(?P<key>[A-Za-z]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",;=\\]*))(?P<end>;|,|$)')


def names(values: Sequence[str]) -> list[str]:
    """Return the SPIFFE URI in the header, or the DNS names of a certificate without one.

    ValueError when the header occurs more than once, is malformed, or names several certificates, several URIs, or a
    DNS name before a URI. A proxy that replaces the header, as Envoy does with SANITIZE_SET, sends none of these.
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
    kinds = [key for key, text in pairs if key in {"uri", "dns"} and text]
    # Envoy writes the URI first and quotes no name, so that a DNS name with `;URI=` in it would be two.
    if "uri" in kinds[1:]:
        raise ValueError("several URIs, or one that is not first")
    uris = [text for key, text in pairs if key == "uri" and text]
    # Nor does it quote a `;DNS=` in a URI: who has a URI is called by it alone.
    return uris or [text for key, text in pairs if key == "dns" and text]
