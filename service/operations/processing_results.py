"""What the text of an answer is: results that fit the template's response_format, or a text."""

import json
import resource
import subprocess
import sys
from typing import Any, NamedTuple

import jsonschema_rs

from service.operations import json_text

BACKTRACKING = 100_000
"""How far the pattern of a schema may look for a match."""


SECONDS = 5
"""The processor time that a comparison may take. Some schemas of a few bytes take years for some answers."""
LONGEST_SECONDS = 60.0
"""How long it may take in all, also where the machine is busy."""
MEMORY_BYTES = 1024 * 1024 * 1024
_NO_MEMORY = 3
"""The exit code of a comparison that has no memory left. One that the system kills has a negative one."""


class Results(NamedTuple):
    text: str
    """JSON."""
    problem: str = ""
    """Why there are none, for people."""


def of(text: str, response_format: str | None) -> Results:
    """Return the results of an answer, or what is wrong with it."""
    if response_format is None:
        return Results(json.dumps({"text": text}, ensure_ascii=False))
    # It holds Python's lock, and cannot be stopped from inside.
    command = [sys.executable, "-m", __name__, str(SECONDS), str(MEMORY_BYTES)]
    asked = json.dumps([text, response_format]).encode()
    try:
        done = subprocess.run(  # noqa: S603 - this module
            command, input=asked, capture_output=True, timeout=LONGEST_SECONDS, check=True, start_new_session=True
        )
    except subprocess.CalledProcessError as ended:
        if ended.returncode >= 0 and ended.returncode != _NO_MEMORY:
            raise
    except subprocess.TimeoutExpired:
        pass
    else:
        return Results(*json.loads(done.stdout))
    return Results("", "the answer cannot be compared with the response_format in the time and memory there is")


def compared(text: str, response_format: str) -> Results:
    """Return what `of` does, however long it takes."""
    try:
        answer = json.loads(text, parse_constant=json_text.refuse)
        schema = json.loads(response_format)
    except (ValueError, RecursionError):
        return Results("", "the answer is not JSON")
    try:
        _validator(schema).validate(answer)
    except jsonschema_rs.ValidationError as error:
        place = "/".join(str(step) for step in error.instance_path)
        rule = "/".join(str(step) for step in error.schema_path)
        # Neither the answer nor the schema: it may be in a log of the caller's.
        return Results("", f"the answer does not fit the response_format: /{place[:200]} breaks /{rule[:200]}")
    except (ValueError, OverflowError, RecursionError):
        return Results("", "the answer cannot be compared with the response_format")
    return Results(text)


def _validator(schema: Any) -> Any:
    options = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACKING)
    return jsonschema_rs.validator_for(schema, pattern_options=options, offline=True)


if __name__ == "__main__":
    for kind, most in zip((resource.RLIMIT_CPU, resource.RLIMIT_AS), map(int, sys.argv[1:]), strict=True):
        resource.setrlimit(kind, (most, most))
    try:
        json.dump(compared(*json.load(sys.stdin)), sys.stdout)
    except MemoryError:
        sys.exit(_NO_MEMORY)
