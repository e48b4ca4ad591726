"""URLs of databases: what PostgreSQL's library would refuse in one is said before anything connects."""

import functools
import re
from collections.abc import Iterator
from urllib.parse import unquote

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

_INSTEAD = {
    "schema": "leave it out for public, or write options=-csearch_path%3DNAME for another schema",
    "pgbouncer": "set OMNIFLO_PREPARE=off and OMNIFLO_DATABASE_DIRECT_URL instead",
    "statement_cache_size": "leave it out, or set OMNIFLO_PREPARE=off to do without prepared statements",
    "connection_limit": "set OMNIFLO_WORKERS and OMNIFLO_THREADS instead",
    "pool_timeout": "set OMNIFLO_DEADLINE_SECONDS instead",
    "socket_timeout": "set OMNIFLO_DEADLINE_SECONDS instead",
    "sslaccept": "write sslmode=verify-full for strict, or sslmode=require for accept_invalid_certs",
    "sslidentity": "write sslcert and sslkey, which name files in PEM",
    "ssl": "write sslmode=require",
}
"""What takes the place of parameters that the URL of an application has: most of them are Prisma's."""

_UNREADABLE = "cannot be read; write special characters in the user and the password as %25 for %, %2F for / and so on"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_OF_THE_PRIMARY = ("read-write", "primary")
_MAX_PORT = 65535


def complaints(url: str) -> Iterator[str]:
    """Yield what is wrong with a URL. It is a secret: of what it holds, only names of parameters are repeated."""
    # As libpq looks for it: the user and the password may hold a question mark.
    query = re.sub(r"^\w+://([^@/]*@)?[^?]*\??", "", url)
    if "@" in query:
        # The end of a password, in front of which something looked like the query.
        yield _UNREADABLE
        return
    names = {unquote(pair.partition("=")[0]) for pair in query.split("&") if pair and pair != "ssl=true"}
    if unknown := sorted(name for name in names if not _is_known(name)):
        for name in unknown:
            yield f"PostgreSQL has no parameter {name!a}; {_INSTEAD.get(name, 'leave it out')}"
        return
    try:
        parts = parse_dsn(url)
    except psycopg2.ProgrammingError:
        yield _UNREADABLE
        return
    if not all(_is_port(port) for port in parts.get("port", "").split(",")):
        yield f"must have a port of 1 to {_MAX_PORT}; write a / in the user or the password as %2F"
    if len(hosts(url)) > 1 and parts.get("target_session_attrs") not in _OF_THE_PRIMARY:
        yield "names several hosts, so it must have target_session_attrs=read-write: the others are read-only"
    if parts.get("sslmode", "prefer") not in _SSL_MODES:
        yield f"must have an sslmode of {', '.join(_SSL_MODES)}"


@functools.lru_cache
def hosts(url: str) -> tuple[str, ...]:
    """Return a URL, or its like in the form of `key=value`, for each of the hosts that one names."""
    parts = parse_dsn(url)
    lists = {name: parts[name].split(",") for name in ("host", "hostaddr", "port") if name in parts}
    count = max((len(lists[name]) for name in ("host", "hostaddr") if name in lists), default=1)
    if count == 1:
        return (url,)
    # One port may be that of all.
    return tuple(
        make_dsn(**parts | {name: values[number % len(values)] for name, values in lists.items()})
        for number in range(count)
    )


def without_secrets(url: str) -> tuple[str, dict[str, str]]:
    """Return what a program of PostgreSQL's is told among its arguments, which all can see, and in its environment."""
    parts = parse_dsn(url)
    password = parts.pop("password", None)
    # Of each host. They would wait for one that hangs for minutes.
    parts.setdefault("connect_timeout", "5")
    return make_dsn(**parts), {} if password is None else {"PGPASSWORD": password}


def _is_known(name: str) -> bool:
    try:
        return re.fullmatch(r"[a-z_]+", name) is not None and bool(parse_dsn(f"{name}=''"))
    except psycopg2.ProgrammingError:
        return False


def _is_port(text: str) -> bool:
    return not text or (re.fullmatch(r"[0-9]{1,5}", text) is not None and 0 < int(text) <= _MAX_PORT)
