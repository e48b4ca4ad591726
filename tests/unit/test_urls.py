"""URLs of databases: what is said of those that PostgreSQL's library would refuse."""

import pytest
from psycopg2.extensions import parse_dsn

from service.database.urls import complaints, hosts

UNREADABLE = "cannot be read; write special characters in the user and the password as %25 for %, %2F for / and so on"
PORT = "must have a port of 1 to 65535; write a / in the user or the password as %2F"
SEVERAL = "names several hosts, so it must have target_session_attrs=read-write: the others are read-only"
SSL_MODE = "must have an sslmode of disable, allow, prefer, require, verify-ca, verify-full"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/database",
        "postgres://user:hunter2@host:5432/database",
        "postgresql:///database?host=/run/postgresql",
        "postgresql://user:hunter2@[::1]:5432/database",
        "postgresql://one:5432,two:5433,three/database?target_session_attrs=read-write",
        "postgresql://host/database?sslmode=verify-full&sslrootcert=ca.pem&channel_binding=require",
        "postgresql://host/database?ssl=true",
        "postgresql://host/database?connect_timeout=10&application_name=mine&options=-csearch_path%3Delsewhere",
        "postgresql://host/database?",
        "postgresql://user:hunter2?schema=public@host/database",
        "postgresql://user:hunter2#schema=public@host/database",
        "postgresql://user:hunt%2Fer2%40@host/database",
    ],
)
def test_what_the_library_takes_is_right(url: str) -> None:
    assert list(complaints(url)) == []


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("schema=public", ["'schema'; leave it out for public, or write options=-csearch_path%3DNAME"]),
        ("schema=tenant", ["'schema'; leave it out for public, or write options=-csearch_path%3DNAME"]),
        ("pgbouncer=true", ["'pgbouncer'; set OMNIFLO_PREPARE=off and OMNIFLO_DATABASE_DIRECT_URL"]),
        ("connection_limit=5", ["'connection_limit'; set OMNIFLO_WORKERS and OMNIFLO_THREADS"]),
        ("pool_timeout=0", ["'pool_timeout'; set OMNIFLO_DEADLINE_SECONDS"]),
        ("socket_timeout=3", ["'socket_timeout'; set OMNIFLO_DEADLINE_SECONDS"]),
        ("statement_cache_size=0", ["'statement_cache_size'; leave it out, or set OMNIFLO_PREPARE=off"]),
        ("sslaccept=strict", ["'sslaccept'; write sslmode=verify-full"]),
        ("sslidentity=id.p12", ["'sslidentity'; write sslcert and sslkey"]),
        ("ssl=no-verify", ["'ssl'; write sslmode=require"]),
        # Of other drivers, misspelt, and what looks like several lines of a message.
        ("prepareThreshold=0", ["'prepareThreshold'; leave it out"]),
        ("sslmod=require", ["'sslmod'; leave it out"]),
        ("a%0Ab=1", [r"'a\nb'; leave it out"]),
        ("schema", ["'schema'; leave it out for public"]),
        ("host=/run&schema=public&connection_limit=5&&sslmode=require", ["'connection_limit'; set", "'schema'; leave"]),
    ],
)
def test_a_parameter_that_it_does_not_know_is_named_with_what_to_write_instead(query: str, named: list[str]) -> None:
    found = list(complaints(f"postgresql://user:hunter2@host:5432/database?{query}"))
    assert len(found) == len(named)
    for complaint, name in zip(found, named, strict=True):
        assert complaint.startswith(f"PostgreSQL has no parameter {name}")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://user:hunter%2@host/database", UNREADABLE),
        ("postgresql://user:hunter%zz@host/database", UNREADABLE),
        ("postgresql://user:5/hunter2?hunter3=4@host/database", UNREADABLE),
        ("postgresql://user:hunter2@[::1/database", UNREADABLE),
        ("postgresql://user:hunter2@host/database?sslmode", UNREADABLE),
        ("postgresql://user:hunter2@host/database?sslmode=a=b", UNREADABLE),
        ("postgresql://user:hunter2/hunter3@host/database", PORT),
        ("postgresql://user:hunter2@host:http/database", PORT),
        ("postgresql://user:hunter2@host:0/database", PORT),
        ("postgresql://user:hunter2@host:65536/database", PORT),
        ("postgresql://user:hunter2@one:1,two:٣/database?target_session_attrs=primary", PORT),
        ("postgresql://user:hunter2@one,two/database", SEVERAL),
        ("postgresql://user:hunter2@/database?host=/one,/two&target_session_attrs=any", SEVERAL),
        ("postgresql://user:hunter2@/database?hostaddr=::1,127.0.0.1&target_session_attrs=standby", SEVERAL),
        ("postgresql://user:hunter2@host/database?sslmode=no-verify", SSL_MODE),
        ("postgresql://user:hunter2@host/database?sslmode=", SSL_MODE),
    ],
)
def test_what_else_it_would_refuse_is_said_without_the_secret(url: str, complaint: str) -> None:
    assert list(complaints(url)) == [complaint]
    assert "hunter" not in complaint


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("one", [{}]),
        ("one,two", [{"host": "one", "port": ""}, {"host": "two", "port": ""}]),
        ("one:1,two:2", [{"host": "one", "port": "1"}, {"host": "two", "port": "2"}]),
        ("one,two:2", [{"host": "one", "port": ""}, {"host": "two", "port": "2"}]),
    ],
)
def test_each_host_has_all_that_is_the_same_for_all(place: str, wanted: list[dict[str, str]]) -> None:
    url = f"postgresql://user:hunt%2Fer%272@{place}/database?target_session_attrs=read-write"
    same = parse_dsn(url)
    assert [parse_dsn(one) for one in hosts(url)] == [same | own for own in wanted]


def test_hosts_may_share_a_port_and_have_addresses() -> None:
    url = "postgresql://user@/database?hostaddr=::1,127.0.0.1&host=a,b&port=6432"
    found = [parse_dsn(one) for one in hosts(url)]
    assert [(one["host"], one["hostaddr"], one["port"]) for one in found] == [
        ("a", "::1", "6432"),
        ("b", "127.0.0.1", "6432"),
    ]
