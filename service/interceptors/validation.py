"""The rules that the protos annotate, checked for every message that comes in."""

from typing import Any

import protovalidate

from service import errors
from service.interceptors.interceptor import Interceptor


class Validation(Interceptor):
    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    def received(self, request: Any) -> None:
        violations = self._validator.collect_violations(request)
        if violations:
            raise errors.field_invalid(*map(_violation, violations))


def _violation(violation: protovalidate.Violation) -> tuple[str, str]:
    """Answer the path of the field and its rule; a rule of a whole request has the path for its id."""
    proto = violation.proto
    path = ""
    for element in proto.field.elements if proto.field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None and element.subscript.field == "index":
            path += f"[{element.subscript.value}]"
    # The library's own sentence holds the character.
    rule = "must not contain U+0000" if proto.rule_id == "string.not_contains" else proto.message
    return path or proto.rule_id, rule
