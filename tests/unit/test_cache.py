"""What is kept, for how long, and that nothing old ever comes back."""

import time
from datetime import UTC, datetime

import pytest

from service import cache
from service.cache import Cache, saw, watching
from service.positions import Position, Snapshot, Write
from service.tags import EVERYTHING

HERE = Position("epoch", "00000001", Snapshot.of("10:20:10,15"), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def kept() -> Cache:
    """A cache that hears of changes."""
    kept = Cache(100_000)
    kept.confirm(time.monotonic() + 3600, HERE)
    return kept


def test_an_answer_is_kept_until_a_tag_of_its_changes(kept: Cache) -> None:
    kept.put("a", b"1", {"template:a": None, "type:t": None}, kept.begin())
    kept.put("b", b"2", {"template:b": None}, kept.begin())
    kept.change(["template:c"])
    assert (kept.get("a"), kept.get("b")) == (b"1", b"2")
    kept.change(["type:t"])
    assert (kept.get("a"), kept.get("b")) == (None, b"2")
    kept.change([EVERYTHING])
    assert kept.get("b") is None


@pytest.mark.parametrize("tag", ["template:a", EVERYTHING])
def test_what_was_read_before_a_change_is_not_kept_after_it(kept: Cache, tag: str) -> None:
    began = kept.begin()
    kept.change([tag])
    kept.put("a", b"old", {"template:a": None}, began)
    assert kept.get("a") is None
    kept.put("a", b"new", {"template:a": None}, kept.begin())
    assert kept.get("a") == b"new"


def test_nothing_is_answered_or_kept_unless_changes_are_heard_of() -> None:
    deaf = Cache(100_000)
    deaf.put("a", b"1", {"template:a": None}, deaf.begin())
    deaf.confirm(time.monotonic(), HERE)
    assert deaf.get("a") is None
    deaf.put("a", b"1", {"template:a": None}, deaf.begin())
    assert deaf.get("a") == b"1"
    deaf.confirm(time.monotonic() - cache.LIVE_SECONDS, HERE)
    assert not deaf.is_live()
    assert deaf.get("a") is None


def test_what_was_last_known_is_there_with_its_age_for_ten_minutes(kept: Cache) -> None:
    kept.put("a", b"1", {"template:a": None}, kept.begin())
    kept.put("b", b"2", {"template:b": None}, kept.begin())
    kept.change(["template:b"])
    kept.confirm(time.monotonic() - 599, HERE)
    last = kept.last_known("a")
    assert last is not None
    assert last[0] == b"1"
    assert last[1] == pytest.approx(599, abs=0.5)
    assert kept.last_known("b") is None, "it was known to be old"
    kept.confirm(time.monotonic() - 601, HERE)
    assert kept.last_known("a") is None


def test_after_a_gap_nothing_old_is_left(kept: Cache) -> None:
    began = kept.begin()
    kept.put("a", b"1", {"template:a": None}, began)
    kept.start_over()
    assert not kept.is_live()
    assert kept.last_known("a") is None
    kept.confirm(time.monotonic(), HERE)
    kept.put("a", b"old", {"template:a": None}, began)
    assert kept.get("a") is None


def test_it_takes_no_more_than_it_may() -> None:
    small = Cache(10_000)
    small.confirm(time.monotonic() + 3600, HERE)
    for number in range(100):
        small.put(number, b"x" * 400, {"template:a": None}, small.begin())
    kept = [number for number in range(100) if small.get(number) is not None]
    assert kept == list(range(91, 100)), "the last used ones"
    small.put("large", b"x" * 10_000, {"template:a": None}, small.begin())
    small.put("of many", b"x", {f"template:{number}": None for number in range(100)}, small.begin())
    assert small.get("large") is small.get("of many") is None
    assert small.get(99) is not None


def test_the_list_of_changes_is_bounded(kept: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MAX_CHANGES", 100)
    kept.put("a", b"1", {"template:a": None}, kept.begin())
    for number in range(250):
        kept.change([f"template:{number}"])
        assert len(kept._changed) <= 100
    assert kept.get("a") is None, "forgotten with the list"


def test_what_is_seen_is_noted_where_somebody_watches() -> None:
    saw("template:nobody")
    with watching() as seen:
        saw("template:a", 3)
        saw("user:u")
        saw("template:a")
    saw("template:nobody")
    assert seen == {"template:a": 3, "user:u": None}


def test_what_is_seen_in_another_state_has_changed(kept: Cache) -> None:
    kept.note({"template:a": 3})
    kept.put("a", b"1", {"template:a": 3}, kept.begin())
    kept.put("b", b"2", {"template:b": 1}, kept.begin())
    kept.note({"template:a": 3, "template:b": None})
    assert (kept.get("a"), kept.get("b")) == (b"1", b"2")
    kept.note({"template:a": 4})
    assert (kept.get("a"), kept.get("b")) == (None, b"2")


def test_a_response_that_depends_on_nothing_is_not_kept(kept: Cache) -> None:
    kept.put("a", b"1", {}, kept.begin())
    assert kept.get("a") is None


def test_what_it_did_and_holds_is_counted(kept: Cache) -> None:
    assert kept.figures() == (0, 0, 0, 0, 0, 0)
    kept.put("a", b"1" * 100, {"template:a": None}, kept.begin())
    kept.get("a")
    kept.get("a")
    kept.get("b")
    kept.pass_by()
    figures = kept.figures()
    assert (figures.hits, figures.misses, figures.passed_by, figures.evictions, figures.entries) == (2, 1, 1, 0, 1)
    assert figures.bytes >= 100
    kept.change(["template:a"])
    kept.get("a")
    assert kept.figures()[:5] == (2, 2, 1, 0, 0)
    kept.start_over()
    kept.get("a")
    # It could not know, so it was not asked.
    assert kept.figures()[:5] == (2, 2, 2, 0, 0)


def test_what_goes_for_lack_of_room_is_counted_and_what_has_changed_is_not() -> None:
    small = Cache(5000)
    small.confirm(time.monotonic() + 3600, HERE)
    for number in range(10):
        small.put(number, b"1" * 900, {f"template:{number}": None}, small.begin())
    figures = small.figures()
    assert figures.entries == 3
    assert figures.evictions == 7
    small.change([EVERYTHING])
    assert small.figures().evictions == 7


def test_it_has_seen_the_writes_of_its_log_that_its_position_sees(kept: Cache) -> None:
    seen = [id for id in range(8, 22) if kept.has_seen(Write("epoch", id))]
    assert seen == [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]
    assert not kept.has_seen(Write("another", 8))
    kept.start_over()
    assert not kept.has_seen(Write("epoch", 8))
