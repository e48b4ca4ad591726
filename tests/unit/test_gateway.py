"""The gateway's pure parts: how long a Retry-After says to wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from service.openai_gateway import _retry_after


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 1), ("", 1), ("soon", 1), ("7", 7), ("0.5", 0.5), ("-3", 0), ("86400", 3600), ("nan", 1), ("inf", 3600)],
)
def test_a_retry_after_is_bounded_and_a_second_when_it_cannot_be_read(header: str | None, seconds: float) -> None:
    assert _retry_after(header) == seconds


def test_a_retry_after_may_be_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < _retry_after(format_datetime(soon, usegmt=True)) <= 100
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
