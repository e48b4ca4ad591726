"""What a variable of the environment may hold: the types of the settings."""

import re
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Annotated, NamedTuple, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from service.actor import Role


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host stands in brackets on the wire and without them in the answer."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = str(IPv6Address(host[1:-1]))
    return host, int(port)


def is_loopback(address: str) -> bool:
    host, _ = split_address(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _postgresql_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in {"postgresql", "postgres"}:
        raise ValueError("must be a URL such as postgresql://user:password@host:5432/database")
    return value


def _https_url(value: str) -> str:
    parts = urlsplit(value)
    is_local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or not (is_local or parts.scheme == "https"):
        raise ValueError("must be an https URL such as https://example.com/path, or http on this machine")
    return value


# As browsers and Clerk write them, for they are compared letter by letter.
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]*))?")
_DEFAULT_PORTS = {("http", "80"), ("https", "443")}


def _origin(value: str) -> str:
    match = _ORIGIN.fullmatch(value)
    if match is None or (match["scheme"], match["port"]) in _DEFAULT_PORTS:
        raise ValueError(
            f"{value!a} can never match: must be an origin such as https://app.example.com, in lower case, without a"
            " path, a slash at the end, * or the default port"
        )
    return value


_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def _label(value: str) -> str:
    if _LABEL.fullmatch(value) is None:
        raise ValueError(f"{value!a} is no label: a letter, then letters, digits, _ and -, all in lower case")
    return value


def _issuer(value: str) -> str:
    _https_url(value)
    match = _ORIGIN.match(value)
    path = "" if match is None else value[match.end() :]
    if match is None or (match["scheme"], match["port"]) in _DEFAULT_PORTS or not re.fullmatch(r"(/[^/?#*\s]+)*", path):
        raise ValueError(
            "can never match: must be the iss of Clerk's sessions, such as https://clerk.example.com, in lower case,"
            " without a slash at the end, a query, * or the default port"
        )
    return value


def _collector(value: str) -> str:
    # Whoever calls over plain text on another machine is on the operator's own network, as with metrics.
    if re.fullmatch(r"https?://[^/?#@\s]+/?", value) is None:
        raise ValueError("must be http:// or https:// with a host and a port, such as http://localhost:4317")
    return value


def _backup_place(value: str) -> str:
    if "://" in value and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\s]*)?", value):
        raise ValueError("must be a folder, or a bucket and a prefix such as s3://backups/omniflo")
    return value


def _rsa_public_key(value: str) -> str:
    # Slow to import, and not often needed.
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    # In one line, line breaks are spelled out.
    pem = value.replace("\\n", "\n")
    try:
        is_key = isinstance(load_pem_public_key(pem.encode()), RSAPublicKey)
    except ValueError:
        is_key = False
    if not is_key:
        raise ValueError("must be an RSA public key, from -----BEGIN PUBLIC KEY----- to the end")
    return pem


def _address(value: str) -> str:
    host, port = split_address(value)
    if not host or not 0 <= port <= 65535:  # noqa: PLR2004 - the highest port
        raise ValueError
    return value


def _listen(value: str) -> str:
    try:
        return _address(value)
    except ValueError:
        raise ValueError("must be host:port, such as 127.0.0.1:50051, 0.0.0.0:50051 or [::]:50051") from None


def _split(value: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, value.split(",")) if name)


def _names(value: object) -> object:
    return _split(value) if isinstance(value, str) else value


def _roles(value: object) -> object:
    if not isinstance(value, str):
        return value
    roles = {}
    for entry in map(str.strip, value.split(",")):
        name, _, role = entry.rpartition("=")
        if entry and (not name or role not in get_args(Role) or name in roles):
            raise ValueError(f"must be unique names, each with a role of {', '.join(get_args(Role))}")
        if entry:
            roles[name] = role
    return roles


class Schedule(NamedTuple):
    """When something is due, again and again, in UTC."""

    every: int
    """Seconds."""
    shift: int
    """Seconds after the beginning of such a span, counted from 1970 on."""

    @classmethod
    def of(cls, text: str) -> "Schedule":
        """Read `03:30` (daily), `:30` (hourly) or `10m` (also `s` and `h`); ValueError for all else."""
        if match := re.fullmatch(r"(?:([01][0-9]|2[0-3]))?:([0-5][0-9])", text):
            hour, minute = match.groups()
            shift = _HOUR * int(hour or 0) + 60 * int(minute)
            return cls(_HOUR if hour is None else 24 * _HOUR, shift)
        if match := re.fullmatch(r"([1-9][0-9]{0,5})([smh])", text):
            return cls(int(match[1]) * _UNITS[match[2]], 0)
        raise ValueError

    def __str__(self) -> str:
        hour, minute = self.shift // _HOUR, self.shift % _HOUR // 60
        if self.every == 24 * _HOUR:
            return f"{hour:02}:{minute:02}"
        if self.every == _HOUR:
            return f":{minute:02}"
        return next(f"{self.every // size}{unit}" for unit, size in _UNITS.items() if self.every % size == 0)


_HOUR = 3600
_UNITS = {"h": _HOUR, "m": 60, "s": 1}


def _schedules(value: object) -> object:
    if not isinstance(value, str):
        return value
    schedules: dict[str, Schedule] = {}
    for entry in _split(value):
        name, _, text = entry.partition("=")
        try:
            schedule = Schedule.of(text)
        except ValueError:
            schedule = None
        if not name or name in schedules or schedule is None:
            raise ValueError(
                f"{entry!a} must be the name of a task and when it runs, in UTC: 03:30 is daily, :30 hourly, and 10m"
                " every 10 minutes; each name once"
            )
        schedules[name] = schedule
    return schedules


PostgresqlUrl = Annotated[SecretStr | None, AfterValidator(lambda url: url and _postgresql_url(url))]
Url = Annotated[str | None, AfterValidator(lambda url: url and _https_url(url))]
Collector = Annotated[str | None, AfterValidator(lambda url: url and _collector(url))]
Issuer = Annotated[str | None, AfterValidator(lambda url: url and _issuer(url))]
BackupPlace = Annotated[str | None, AfterValidator(lambda place: place and _backup_place(place))]
RsaPublicKey = Annotated[str | None, AfterValidator(lambda pem: pem and _rsa_public_key(pem))]
Address = Annotated[str, AfterValidator(_listen)]
OptionalAddress = Annotated[str | None, AfterValidator(lambda address: address and _listen(address))]
# Joined by commas in the environment.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_names)]
Labels = Annotated[tuple[Annotated[str, AfterValidator(_label)], ...], NoDecode, BeforeValidator(_names)]
Roles = Annotated[Mapping[str, Role], NoDecode, BeforeValidator(_roles)]
Schedules = Annotated[Mapping[str, Schedule], NoDecode, BeforeValidator(_schedules)]
