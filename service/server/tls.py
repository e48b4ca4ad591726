"""The certificates that the server shows and asks for, read again when their files change."""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from service.config import ConfigurationError, Settings, variable

if TYPE_CHECKING:
    import grpc

_log = structlog.get_logger()


def check(settings: Settings) -> None:
    """Raise ConfigurationError unless the files hold a certificate with its key, and what clients are signed by."""
    if settings.tls_cert is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A key with a password is refused, where OpenSSL would ask for it on the terminal.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{variable('tls_cert')} and {variable('tls_key')}: {_reason(error)}") from None
    try:
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{variable('tls_client_ca')}: {_reason(error)}") from None


def credentials(settings: Settings, *, wants_client: bool) -> "grpc.ServerCredentials":
    """Return what a listener needs that shows the certificate, and asks clients for theirs or does not."""
    import grpc  # noqa: PLC0415 - who only checks does without

    files = [path for path in (settings.tls_cert, settings.tls_key, settings.tls_client_ca) if path is not None]
    stamps = _stamps(files)

    # Threads of gRPC's core call it, which Python 3.11 cannot trace.
    def changed() -> Any:  # pragma: no cover
        """Return what to use from now on, or None for what is used. grpcio asks at each connection."""
        nonlocal stamps
        try:
            now = _stamps(files)
            if now == stamps:
                return None
            check(settings)
            configuration = _configuration(settings, wants_client=wants_client)
            if _stamps(files) != now:
                # What was checked may not be what was read.
                return None
        except (ConfigurationError, OSError) as error:
            # Half of them may be written. The old ones are good until the new ones are.
            _log.error("certificates", error=str(error))
            return None
        stamps = now
        _log.info("certificates", changed=True)
        return configuration

    initial = _configuration(settings, wants_client=wants_client)
    return grpc.dynamic_ssl_server_credentials(initial, changed, wants_client)


def _configuration(settings: Settings, *, wants_client: bool) -> "grpc.ServerCertificateConfiguration":
    import grpc  # noqa: PLC0415 - as above

    if settings.tls_cert is None or settings.tls_key is None:
        raise ConfigurationError(f"{variable('tls_cert')} and {variable('tls_key')} are needed")
    roots = settings.tls_client_ca.read_bytes() if wants_client and settings.tls_client_ca is not None else None
    return grpc.ssl_server_certificate_configuration(
        [(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())], roots
    )


def _stamps(files: list[Path]) -> list[tuple[int, int]]:
    return [(stat.st_mtime_ns, stat.st_ino) for stat in map(Path.stat, files)]


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
