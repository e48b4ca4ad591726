"""Revisions to messages, and how they differ. Pure."""

from collections.abc import Sequence

from google.protobuf.message import Message

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_revision_pb2 import TemplateRevision, TemplateTypeRevision
from omniflo.templates.v1.template_service_pb2 import (
    DiffTemplateRevisionsResponse,
    RestoreTemplateRevisionResponse,
)
from service.models import templates
from service.operations.template_revisions import Revision
from service.operations.template_type_revisions import TypeRevision
from service.servicers import decode, encode


def revision(of: Revision) -> TemplateRevision:
    about = of.about
    return TemplateRevision(
        template_id=of.template.id,
        revision=of.template.revision,
        template=encode.template(of.template),
        message=about.message,
        author_id=about.author_id or "",
        actor=about.actor,
        create_time=encode.timestamp(about.create_time),
    )


def type_revision(of: TypeRevision) -> TemplateTypeRevision:
    about = of.about
    return TemplateTypeRevision(
        template_type_id=of.template_type.id,
        revision=about.revision,
        template_type=encode.template_type(of.template_type),
        author_id=about.author_id or "",
        actor=about.actor,
        create_time=encode.timestamp(about.create_time),
    )


def diff(first: templates.Template, second: templates.Template) -> DiffTemplateRevisionsResponse:
    one, other = encode.template(first), encode.template(second)
    names = [name for name in sorted(decode.writable(one)) if _value(one, name) != _value(other, name)]
    if not names:
        return DiffTemplateRevisionsResponse()
    return DiffTemplateRevisionsResponse(fields=names, from_template=_only(one, names), to_template=_only(other, names))


def _value(message: Message, name: str) -> object:
    has = message.DESCRIPTOR.fields_by_name[name].has_presence and not message.HasField(name)
    return None if has else getattr(message, name)


def _only(message: Template, names: Sequence[str]) -> Template:
    return Template(**{field.name: value for field, value in message.ListFields() if field.name in names})


def restored(row: templates.Template) -> RestoreTemplateRevisionResponse:
    return RestoreTemplateRevisionResponse(template=encode.template(row))
