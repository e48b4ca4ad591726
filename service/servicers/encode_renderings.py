"""Renderings to messages. Pure."""

from hashlib import sha256

from omniflo.templates.v1.template_service_pb2 import (
    Adjustment,
    AdjustmentAction,
    RenderTemplateResponse,
    TemplateRendering,
    WarningKind,
)
from omniflo.templates.v1.template_service_pb2 import Warning as RenderingWarning
from service import errors, statuses
from service.models.templates import View
from service.operations.renderings import Rendering
from service.rendering import families
from service.servicers import encode

_LEFT_OUT = AdjustmentAction.ADJUSTMENT_ACTION_LEFT_OUT


def rendering(of: Rendering) -> RenderTemplateResponse:
    message = RenderTemplateResponse(
        responses_request=of.rendered.body,
        adjustments=[
            Adjustment(
                field=adjustment.field,
                action=_LEFT_OUT,
                reason=adjustment.reason,
            )
            for adjustment in of.rendered.adjustments
        ],
        warnings=[] if of.days_left is None else [_warning(of.days_left)],
        template=encode.template(of.template, View.SUMMARY),
        revision=of.template.revision,
        template_type_revision=of.type_revision,
        label=of.template.label,
        rendering_rules=families.rules(),
        digest=sha256(of.rendered.body.encode()).hexdigest(),
    )
    if of.reason is not None:
        message.reason = encode.REASONS[of.reason]
    return message


def rendering_outcome(template_type: str, of: Rendering | errors.Error) -> TemplateRendering:
    if isinstance(of, errors.Error):
        return TemplateRendering(template_type=template_type, error=statuses.of(of))
    return TemplateRendering(template_type=template_type, rendered=rendering(of))


def _warning(days_left: int) -> RenderingWarning:
    if days_left > 0:
        kind = WarningKind.WARNING_KIND_MODEL_SHUTTING_DOWN
        text = f"OpenAI refuses the model in {days_left} {'day' if days_left == 1 else 'days'}"
    else:
        kind = WarningKind.WARNING_KIND_MODEL_SHUT_DOWN
        text = "the model's shutdown date has come, and OpenAI refuses it"
    return RenderingWarning(field="model", kind=kind, message=text)
