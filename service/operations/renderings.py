"""What to send to OpenAI: templates rendered into the body of a Responses request."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from service import errors, rendering
from service.actor import Actor
from service.models.templates import Template, View
from service.operations import rights, selections, templates
from service.operations.listing import MAX_BYTES
from service.operations.selections import Reason, Resolution


class Rendering(NamedTuple):
    template: Template
    reason: Reason | None
    """Why it holds for the user and the type; None when it was asked for by id."""
    rendered: rendering.Rendered
    days_left: int | None
    """The days until OpenAI refuses the model, 0 or less when it does; None unless a warning is due."""


def render(actor: Actor, id: str) -> Rendering:
    """Render the template of an id."""
    return _render(templates.get(actor, id, view=View.RENDERABLE), None)


def resolve(actor: Actor, *, user_id: str, organization_id: str | None = None, template_type: str) -> Rendering:
    """Render the template that holds for a user and a type."""
    user_id = rights.user(actor, user_id, "resolve.user_id")
    resolution = selections.resolve(
        actor, user_id=user_id, organization_id=organization_id, template_type=template_type, view=View.RENDERABLE
    )
    return _render(*resolution)


def batch_resolve(
    actor: Actor, *, user_id: str, organization_id: str | None = None, template_types: Sequence[str]
) -> list[Rendering | errors.Error]:
    """Render each type for a user: a rendering, or the error that `resolve` would raise."""
    outcomes: list[Rendering | errors.Error] = []
    total = 0
    resolved = selections.batch_resolve(
        actor, user_id=user_id, organization_id=organization_id, template_types=template_types, view=View.RENDERABLE
    )
    for outcome in resolved:
        outcomes.append(_render(*outcome) if isinstance(outcome, Resolution) else outcome)
        # A body may be larger than what it was made of: JSON spells some characters with several.
        total += 1000 + (outcomes[-1].rendered.size if isinstance(outcomes[-1], Rendering) else 0)
        if total > MAX_BYTES:
            raise selections.too_large(len(outcomes) - 1)
    return outcomes


def _render(template: Template, reason: Reason | None) -> Rendering:
    if template.renderable is None:
        raise TypeError("a template is rendered from its RENDERABLE view")
    return Rendering(
        template,
        reason,
        rendering.render(
            instructions=template.instructions,
            model=template.openai_id,
            temperature=template.temperature,
            reasoning_effort=template.reasoning_effort,
            tools=template.renderable.tools,
            metadata={"template_id": template.id, "template_type": template.type_name},
        ),
        rendering.days_left(template.renderable.shutdown_date, datetime.now(UTC).date()),
    )
