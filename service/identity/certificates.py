"""The names in client certificates."""

import functools
from collections.abc import Sequence

from cryptography import x509


@functools.lru_cache(1024)
def names_in(pem: bytes) -> Sequence[str]:
    """Return the URIs and DNS names of a certificate."""
    # grpcio has them in `peer_uri` and `peer_dns`, but cut at U+0000, behind which another's domain may stand.
    try:
        extensions = x509.load_pem_x509_certificate(pem).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return (*uris, *names.get_values_for_type(x509.DNSName))
