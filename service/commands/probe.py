"""`probe`: asks a running server for its health."""

import argparse
import sys
from pathlib import Path

from service.config import ConfigurationError, Settings, variable
from service.variables import split_address

LONGEST_SECONDS = 60.0


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("probe", help="ask a running server for its health", description=run.__doc__)
    command.add_argument(
        "address",
        nargs="?",
        help=f"host:port; by default {variable('health_listen')}, or {variable('listen')} if that is unset",
    )
    command.add_argument("--service", default="", metavar="NAME", help="`liveness`, or a service; by default all of it")
    command.add_argument("--timeout", type=_seconds, default=1.0, metavar="SECONDS", help="1 by default")
    command.add_argument("--tls", action="store_true", help="use TLS, as the next four do")
    command.add_argument("--ca", type=Path, metavar="FILE", help="what signs the server's certificate, in PEM")
    command.add_argument("--server-name", metavar="NAME", help="the name in it, if it is not the host")
    command.add_argument("--cert", type=Path, metavar="FILE", help="a client certificate, in PEM")
    command.add_argument("--key", type=Path, metavar="FILE", help="its key, in PEM")
    command.set_defaults(run=run)


def run(settings: Settings, options: argparse.Namespace) -> None:
    """Print SERVING and exit with 0, or exit with 1 and print why not, on standard error.

    That is NOT_SERVING, what failed (such as UNAVAILABLE, with the cause), or that there was no answer in time.
    """
    # grpcio takes a tenth of a second, which other commands do without.
    from service.server import probing  # noqa: PLC0415 - see above

    if (options.cert is None) != (options.key is None):
        raise ConfigurationError("--cert and --key go together")
    is_main = options.address is None and settings.health_listen is None
    asks_for_tls = any((options.tls, options.ca, options.cert, options.server_name))
    is_secure = asks_for_tls or (is_main and settings.tls_cert is not None)
    address = options.address or _reachable(settings.health_listen or settings.listen)
    ca, key, cert = (None if file is None else probing.read(file) for file in (options.ca, options.key, options.cert))
    name = options.server_name
    if is_main and ca is None:
        ca, own_name = probing.own_certificate(settings)
        name = name or own_name
    status = probing.ask(
        address,
        options.service,
        seconds=options.timeout,
        tls=(ca, key, cert) if is_secure else None,
        name=name,
    )
    if status != "SERVING":
        sys.exit(f"{address}: {status}")
    print(status)


def _reachable(listen: str) -> str:
    """Return where a listener is reached from its own machine."""
    host, port = split_address(listen)
    if not port:
        raise ConfigurationError("the server has taken a free port: name its address")
    return {"0.0.0.0": f"127.0.0.1:{port}", "::": f"[::1]:{port}"}.get(host, listen)  # noqa: S104 - it is replaced


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be more than 0, and at most {LONGEST_SECONDS:.0f}")
    return seconds
