"""What to send to OpenAI: templates rendered into the body of a Responses request."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from service import cache, errors, rendering
from service.actor import Actor
from service.database.transactions import read
from service.models.revisions import tools_of as revised_tools
from service.models.templates import Template, View
from service.operations import rights, selections, template_variables, templates
from service.operations.listing import MAX_BYTES
from service.operations.selections import Reason, Resolution

NOTHING: Mapping[str, str] = MappingProxyType({})
_SETTINGS = (
    "temperature",
    "reasoning_effort",
    "response_format",
    "verbosity",
    "max_output_tokens",
    "top_p",
    "tool_choice",
    "parallel_tool_calls",
)
"""What a template and a rendering call the same."""


class Rendering(NamedTuple):
    template: Template
    type_revision: int
    reason: Reason | None
    """Why it holds for the user and the type; None when it was asked for by id."""
    rendered: rendering.Rendered
    days_left: int | None
    """The days until OpenAI refuses the model, 0 or less when it does; None unless a warning is due."""


@read
def render(
    actor: Actor,
    id: str,
    *,
    variables: Mapping[str, str],
    labels: Sequence[str] = (),
    revision: int = 0,
    type_revision: int = 0,
    metadata: Mapping[str, str] = NOTHING,
) -> Rendering:
    """Render the template of an id with the values of its variables.

    A revision of 0 is that of the labels, or the latest; of its type, the latest.
    """
    _keep_none_with(variables)
    template = templates.get(actor, id, view=View.RENDERABLE, labels=labels, revision=revision)
    renderable = template.renderable
    if renderable is not None and type_revision not in {0, renderable.type_revision}:
        tools = revised_tools(template.template_type_id, type_revision)
        if tools is None:
            raise errors.not_found(
                "TEMPLATE_TYPE_REVISION", template_type=template.type_name, revision=str(type_revision)
            )
        template.renderable = renderable._replace(tools=tools, type_revision=type_revision)
    elif renderable is not None and not renderable.type_revision:
        raise errors.not_found("TEMPLATE_TYPE", name=template.type_name)
    return _render(template, None, variables, metadata)


def resolve(
    actor: Actor,
    *,
    user_id: str,
    organization_id: str | None = None,
    template_type: str,
    variables: Mapping[str, str],
    labels: Sequence[str] = (),
    metadata: Mapping[str, str] = NOTHING,
) -> Rendering:
    """Render the template that holds for a user and a type."""
    _keep_none_with(variables)
    user_id = rights.user(actor, user_id, "resolve.user_id")
    resolution = selections.resolve(
        actor,
        user_id=user_id,
        organization_id=organization_id,
        template_type=template_type,
        view=View.RENDERABLE,
        labels=labels,
    )
    return _render(*resolution, variables, metadata)


def batch_resolve(
    actor: Actor,
    *,
    user_id: str,
    organization_id: str | None = None,
    template_types: Sequence[str],
    variables: Mapping[str, str],
    labels: Sequence[str] = (),
) -> list[Rendering | errors.Error]:
    """Render each type for a user: a rendering, or the error that `resolve` would raise."""
    outcomes: list[Rendering | errors.Error] = []
    total = 0
    resolved = selections.batch_resolve(
        actor,
        user_id=user_id,
        organization_id=organization_id,
        template_types=template_types,
        view=View.RENDERABLE,
        labels=labels,
    )
    for outcome in resolved:
        outcomes.append(_outcome(outcome, variables))
        # A body may be larger than what it was made of: JSON spells some characters with several.
        total += 1000 + (_size(outcomes[-1]) if isinstance(outcomes[-1], Rendering) else 0)
        if total > MAX_BYTES:
            raise selections.too_large(len(outcomes) - 1)
    return outcomes


def _keep_none_with(variables: Mapping[str, str]) -> None:
    """Have the response of a request with variables not kept: hardly any has the same ones again."""
    if variables:
        cache.keep_none()


def _outcome(of: Resolution | errors.Error, variables: Mapping[str, str]) -> Rendering | errors.Error:
    try:
        return _render(*of, variables) if isinstance(of, Resolution) else of
    except errors.InvalidArgument as error:
        return error


def _size(of: Rendering) -> int:
    """Return the most bytes of a rendering, with its template in the SUMMARY view."""
    template = of.template
    texts = (template.title, template.description, *template.disabled_tools, *template.tags, *template.labels)
    return of.rendered.size + sum(len(text.encode()) + 20 for text in texts)


def _render(
    template: Template, reason: Reason | None, variables: Mapping[str, str], more: Mapping[str, str] = NOTHING
) -> Rendering:
    if template.renderable is None:
        raise TypeError("a template is rendered from its RENDERABLE view")
    # An attribute of peewee's takes five times as long as its value here.
    has = template.__data__
    instructions, unknown = template_variables.fill(has["instructions"], has["variables"], variables)
    adjustments = [
        rendering.Adjustment(f"variables.{name}", "the template does not declare this variable") for name in unknown
    ]
    disabled = has["disabled_tools"]
    rendered = rendering.render(
        instructions=instructions,
        model=template.openai_id,
        tools=[tool for tool in template.renderable.tools if tool.name not in disabled],
        metadata={
            "template_id": has["id"],
            "template_type": template.type_name,
            "template_revision": str(has["revision"]),
            "template_type_revision": str(template.renderable.type_revision),
            **more,
        },
        **{name: has[name] for name in _SETTINGS},
    )
    return Rendering(
        template,
        template.renderable.type_revision,
        reason,
        rendered if not adjustments else rendered._replace(adjustments=adjustments + rendered.adjustments),
        rendering.days_left(template.renderable.shutdown_date, datetime.now(UTC).date()),
    )
