"""The log of changes: what it never has of a write, and that a retry leaves nothing in it."""

from hashlib import sha256

import pytest

from tests.conftest import Api, Database
from tests.contract import samples
from tests.contract.methods import IMMUTABLE, RECORDED, UNRECORDED, UPDATES, WRITES, Field, Method, behaviour

CANARY = "canary-of-a-test"
RECORDED_TEXTS = {"clerk_id", "name", "description", "schema", "model", "openai_file_id", "response_id"}
"""The texts that are recorded as they are, but for those of a template."""


def texts(method: Method) -> list[Field]:
    """Answer the texts of a request that name nothing: a caller may send what it likes."""
    references = {str(field) for field in method.references()}
    return [
        field
        for field in method.strings()
        if str(field) not in references | {"request_id"}
        and field.name not in {"etag", "label", "openai_id", "memory_limit", "tool_choice"}
        and str(field) != "template.variables[0].name"
        and not field.last.is_repeated
    ]


def log(database: Database) -> list[str]:
    return [text for (text,) in database.query("select changes::text from changes order by seq")]


@pytest.mark.parametrize(
    ("method", "field"), [(method, field) for method in RECORDED for field in texts(method)], ids=str
)
def test_what_a_template_says_is_never_recorded(api: Api, database: Database, method: Method, field: Field) -> None:
    request = samples.of(api, method)
    is_json = field.name in {"schema", "response_format", "results"}
    value = f'{{"type": "object", "properties": {{}}, "title": "{CANARY}"}}' if is_json else CANARY
    samples.put(request, field, value)
    database.query("delete from changes")
    method.on(api)(request)
    is_ignored = method in UPDATES and IMMUTABLE in behaviour(field.last)
    is_recorded = field.name in RECORDED_TEXTS and field.way[0].name != "template" and not is_ignored
    assert any(CANARY in row for row in log(database)) is is_recorded
    assert log(database)


def test_no_secret_and_no_digest_of_one_is_recorded(api: Api, database: Database) -> None:
    secrets = []
    for method in WRITES:
        if method.unkept:
            answer = method.on(api)(samples.of(api, method))
            secrets += [getattr(answer, name).split("_")[2][:64] for name in method.unkept]
    assert len(secrets) == 2
    text = "\n".join(log(database))
    for secret in secrets:
        digest = sha256(bytes.fromhex(secret))
        assert not [found for found in (secret, digest.hexdigest(), str(digest.digest())) if found in text]


@pytest.mark.parametrize("method", UNRECORDED, ids=str)
def test_usage_and_steps_of_runs_leave_nothing(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    before = log(database)
    method.on(api)(request)
    assert log(database) == before


@pytest.mark.parametrize("method", RECORDED, ids=str)
def test_a_retry_leaves_nothing(api: Api, database: Database, method: Method) -> None:
    request = samples.of(api, method)
    request.request_id = "once"  # type: ignore[attr-defined]
    before = log(database)
    method.on(api)(request)
    first = log(database)[len(before) :]
    assert first
    assert all("once" in row for row in first)
    method.on(api)(request)
    assert log(database)[len(before) :] == first
