"""The header in which a proxy says whose certificate it saw: Envoy's x-forwarded-client-cert. Pure."""

import re
from collections.abc import Sequence

HEADER = "x-forwarded-client-cert"

_PAIR = re.compile(r'(?P<key>[A-Za-z]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",;=\\]*))(?P<end>;|,|$)')


def names(values: Sequence[str]) -> list[str]:
    """Answer the SPIFFE URI of the one certificate that the header is about, or the DNS names of one without.

    ValueError when the header does not stand exactly once, is no such header, is about several certificates, names
    several URIs, or a DNS name before one: a proxy that replaces it, as SANITIZE_SET makes Envoy do, sends nothing of
    the kind.
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
