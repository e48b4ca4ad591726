"""The names in client certificates."""

import functools
from collections.abc import Sequence

from cryptography import x509


@functools.lru_cache(1024)
def uris_in(pem: bytes) -> Sequence[str]:
    """Return the URIs of a certificate; none of what is no certificate."""
    names = _names_in(pem)
    return () if names is None else tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


@functools.lru_cache(1024)
def dns_names_in(pem: bytes) -> Sequence[str]:
    """Return the DNS names of a certificate; none of what is no certificate."""
    names = _names_in(pem)
    return () if names is None else tuple(names.get_values_for_type(x509.DNSName))


def names_in(pem: bytes) -> Sequence[str]:
    """Return the URIs and DNS names of a certificate."""
    return (*uris_in(pem), *dns_names_in(pem))


def _names_in(pem: bytes) -> x509.SubjectAlternativeName | None:
    # grpcio has them in `peer_uri` and `peer_dns`, but cut at U+0000, behind which another's domain may stand.
    try:
        extensions = x509.load_pem_x509_certificate(pem).extensions
        return extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
