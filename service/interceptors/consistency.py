"""How fresh a response the caller wants: the metadata `x-omniflo-consistency`."""

import grpc

from service import errors

HEADER = "x-omniflo-consistency"
DEFAULT = "default"
STRONG = "strong"
"""From the database."""
AVAILABLE = "available"
"""While the database is unreachable, the last known response."""

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


def of(context: grpc.ServicerContext) -> str:
    """Return what the caller asks for; FIELD_INVALID for anything else."""
    values = [value for key, value in context.invocation_metadata() if key == HEADER]
    if not values:
        return DEFAULT
    if len(values) != 1 or values[0] not in {DEFAULT, STRONG, AVAILABLE}:
        raise errors.field_invalid((HEADER, "must be default, strong or available"))
    return str(values[0])
