"""The gateway by itself: how long a Retry-After says to wait, and what is said of a list that is not quite right."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from service.openai_gateway import Gateway, _retry_after
from tests.openai_stand_in import KEY, MODELS, StandIn, listed


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
    assert _retry_after("Mon, 01 Jan 99999999999 00:00:00 GMT") == 1


def test_what_is_left_out_of_a_list_is_counted_and_logged_in_one_short_line() -> None:
    stand_in = StandIn()
    gateway = Gateway(SecretStr(KEY), stand_in.url)
    stand_in.odd = [listed(f"odd {'x' * 1000}{number}") for number in range(100)]
    stand_in.models["o3"] = 1_796_947_200
    with capture_logs() as lines:
        models = gateway.models()
        gateway.model("o3")
        stand_in.odd.clear()
        del stand_in.models["o3"]
        gateway.models()
    gateway.stop()
    stand_in.close()
    assert [model.openai_id for model in models] == sorted(MODELS)
    assert gateway.odd == {"id": 100, "shutdown_date": 2}
    # Servers of other tests may log in this process.
    lines = [line for line in lines if line["event"] == "odd models of OpenAI"]
    assert [(line["log_level"], line["count"]) for line in lines] == [
        ("warning", {"id": 100, "shutdown_date": 1}),
        ("warning", {"shutdown_date": 1}),
    ]
    examples = [line["examples"] for line in lines]
    assert examples[1] == ["1796947200"]
    assert len(examples[0]) == 3
    assert max(map(len, examples[0])) <= 64
