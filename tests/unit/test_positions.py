"""Positions and writes: what is seen from where, and that their tokens say all of it and nothing else."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest

from service.positions import Position, Snapshot, Write

EPOCH = "7fa60062-38c1-494f-afa0-586b556c037e"
HERE = Position(EPOCH, "00000001", Snapshot.of("10:20:10,15"), datetime(2026, 1, 1, 12, 30, 0, 123456, UTC))
WRITE = Write(EPOCH, 4711)


def encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_a_snapshot_sees_what_had_ended() -> None:
    assert [id for id in range(8, 22) if HERE.snapshot.sees(id)] == [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]


@pytest.mark.parametrize(
    ("other", "is_covered"),
    [
        ("10:20:10,15", True),
        ("10:15:10", True),
        ("5:20:5,10,15", True),
        ("11:20:15", False),
        ("10:21:10,15", False),
        ("10:20:10", False),
        ("15:15:", False),
    ],
)
def test_a_snapshot_covers_another_of_which_it_sees_all(other: str, is_covered: bool) -> None:
    assert HERE.snapshot.covers(Snapshot.of(other)) is is_covered


@pytest.mark.parametrize("snapshot", ["10:20:10,15", "3:3:", f"1:{2**62}:1"])
def test_a_token_of_a_position_is_read_as_it_was_written(snapshot: str) -> None:
    position = HERE._replace(snapshot=Snapshot.of(snapshot))
    assert Position.of(position.token()) == position
    assert position.token().isascii()


def test_a_token_of_a_write_is_read_as_it_was_written() -> None:
    assert Write.of(WRITE.token()) == WRITE


@pytest.mark.parametrize(
    "token",
    [
        "",
        "é",
        "x",
        "=",
        WRITE.token(),
        HERE.token() + "=",
        HERE.token() + "A",
        HERE.token()[:-1],
        HERE.token().swapcase(),
        "\n" + HERE.token(),
        encoded(f"p/{EPOCH}/00000001/1/10:20"),
        encoded(f"p/{EPOCH}/00000001/1/10:20:x"),
        encoded(f"p/{EPOCH}/00000001/1/10:20:15,10"),
        encoded(f"p/{EPOCH}/00000001/01/10:20:"),
        encoded(f"p/{EPOCH}/00000001/{10**30}/10:20:"),
        encoded(f"p/{EPOCH}/00000001/1/10:{2**63}:"),
        encoded(f"p/{EPOCH}/00000001/1/10:-1:"),
        encoded(f"p/{EPOCH}/00000001/1/10:9:"),
        encoded(f"p/{EPOCH}/00000001/1/-1:20:"),
        encoded(f"p/{EPOCH}/00000001/1/10:20:9"),
        encoded(f"p/{EPOCH}/00000001/1/10:20:20"),
        encoded(f"p/{EPOCH}/00000001/1/10:20:{10**25}"),
        encoded(f"p/{EPOCH}/00000001/x/10:20:"),
        encoded(f"p/{EPOCH}/1/10:20:"),
    ],
)
def test_no_other_text_is_a_token_of_a_position(token: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        Position.of(token)


@pytest.mark.parametrize(
    "token",
    ["", "é", "x", HERE.token(), WRITE.token()[:-1], encoded(f"w/{EPOCH}"), encoded(f"w/{EPOCH}/x"), encoded("w/e/01")],
)
def test_no_other_text_is_a_token_of_a_write(token: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        Write.of(token)
