"""How fresh a response the caller wants: the metadata `x-omniflo-consistency` and `x-omniflo-at-least`."""

from collections.abc import Sequence

import grpc

from service import errors
from service.positions import Write

HEADER = "x-omniflo-consistency"
DEFAULT = "default"
STRONG = "strong"
"""From the database."""
AVAILABLE = "available"
"""While the database is unreachable, the last known response."""

AT_LEAST = "x-omniflo-at-least"
"""The `x-omniflo-token` of a write that the response is to show."""

METHODS = frozenset(
    f"/omniflo.templates.v1.{name}"
    for name in (
        "TemplateService/GetTemplate",
        "TemplateService/BatchGetTemplates",
        "TemplateService/RenderTemplate",
        "SelectionService/ResolveTemplate",
    )
)
"""The methods that give the caller the choice: their responses are cached."""


def of(context: grpc.ServicerContext) -> tuple[str, Write | None]:
    """Return what the caller asks for, and the write that it wants to see; FIELD_INVALID for anything else."""
    wanted: list[str | bytes] = []
    writes: list[str | bytes] = []
    for key, value in context.invocation_metadata():
        if key == HEADER:
            wanted.append(value)
        elif key == AT_LEAST:
            writes.append(value)
    if wanted and (len(wanted) != 1 or wanted[0] not in {DEFAULT, STRONG, AVAILABLE}):
        raise errors.field_invalid((HEADER, "must be default, strong or available"))
    return str(wanted[0]) if wanted else DEFAULT, _write(writes) if writes else None


def _write(values: Sequence[str | bytes]) -> Write:
    try:
        (token,) = values
        return Write.of(str(token))
    except ValueError:
        raise errors.field_invalid((AT_LEAST, "must be the x-omniflo-token of one response")) from None
