"""The types that templates are written for."""

from collections.abc import Mapping

from service import errors
from service.actor import Actor
from service.database.transactions import read, refused_by, transaction
from service.models.row import key_column
from service.models.template_types import TemplateType, tools_of
from service.models.templates import Template
from service.operations import rights
from service.operations.listing import Key, Page, Source

_SOURCE = Source(
    keys="template_types t",
    id="t.id",
    order=("t.name",),
    message_size=TemplateType.size_with_tools("t"),
    rows="template_types t on t.id = page.id",
    select=f"{tools_of('t.id')}, {TemplateType.columns('t')}",
    of=TemplateType.of_joined,
    key=lambda template_type: (template_type.name,),
)


@transaction
def create(actor: Actor, *, name: str, description: str = "") -> TemplateType:
    """Add a type without tools, or raise TEMPLATE_TYPE_ALREADY_EXISTS."""
    rights.administer(actor)
    return TemplateType.add(name=name, description=description)


@read
def get(actor: Actor, **key: str) -> TemplateType:
    """Return the type of an `id` or a `name`, with its tools."""
    column, value = key_column(key, "id", "name")
    found = TemplateType.with_tools(f"where t.{column} = %s", [value])
    if not found:
        raise errors.not_found("TEMPLATE_TYPE", **key)
    return found[0]


@read
def page(actor: Actor, *, after: Key | None, size: int) -> Page[TemplateType]:
    """Return the types with their tools, by name."""
    return _SOURCE.page(after=after, size=size)


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, object], *, etag: str) -> TemplateType:
    """Write `changes`, unless `etag` is given and no longer current."""
    rights.administer(actor)
    lock(id, etag).change(**changes)
    return get(actor, id=id)


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Delete a type and its tools, unless templates are of the type."""
    rights.administer(actor)
    template_type = lock(id, etag)
    with refused_by(
        "templates_are_of_a_type",
        lambda: errors.FailedPrecondition(
            "TEMPLATE_TYPE_IN_USE",
            "templates are of the type",
            {"templates": str(Template.count_in(rights.countable(actor), "template_type_id", id))},
        ),
    ):
        template_type.delete_instance()


def lock(id: str, etag: str = "") -> TemplateType:
    """Lock a type for a change of it, of its tools, or of its default."""
    template_type = TemplateType.lock_one(TemplateType.id == id)
    if template_type is None:
        raise errors.not_found("TEMPLATE_TYPE", id=id)
    template_type.require_etag(etag)
    return template_type


def hold(name: str, *, mode: str = "FOR KEY SHARE") -> TemplateType:
    """Return the type, which nobody can delete until the transaction ends."""
    template_type = TemplateType.lock_one(TemplateType.name == name, mode=mode)
    if template_type is None:
        raise errors.not_found("TEMPLATE_TYPE", name=name)
    return template_type
