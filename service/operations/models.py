"""The catalogue of models that templates may name."""

from collections.abc import Mapping
from datetime import date

from service import errors
from service.actor import Actor
from service.db import read, refused_by, transaction
from service.models.models import Model
from service.models.templates import Template
from service.operations.listing import Key, Page, Source

WRITABLE = frozenset({"name", "description", "shutdown_date"})

_SOURCE = Source(
    keys="openai_models t",
    id="t.id",
    order=("t.name", "t.id"),
    octets="octet_length(t.name) + octet_length(t.description) + 500",
    rows="openai_models t on t.id = page.id",
    select=Model.columns("t"),
    of=Model.of,
    key=lambda model: (model.name, model.id),
)


@transaction
def create(
    actor: Actor, *, openai_id: str, name: str, description: str = "", shutdown_date: date | None = None
) -> Model:
    """Add a model, or raise MODEL_ALREADY_EXISTS."""
    return Model.add(openai_id=openai_id, name=name, description=description, shutdown_date=shutdown_date)


@read
def get(actor: Actor, **key: str) -> Model:
    """Answer the model of an `id` or an `openai_id`."""
    ((column, value),) = key.items()
    found = Model.fetch(f"where t.{column} = %s", [value])
    if not found:
        raise errors.not_found("MODEL", **key)
    return found[0]


@read
def page(actor: Actor, *, after: Key | None, size: int) -> Page[Model]:
    """Answer the models, by name."""
    return _SOURCE.page(after=after, size=size)


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, object], *, etag: str) -> Model:
    """Write `changes`, unless `etag` is given and no longer current."""
    return _locked(id, etag).change(**changes)


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Delete a model, unless templates name it."""
    model = _locked(id, etag)
    with refused_by(
        "templates_name_a_model",
        lambda: errors.FailedPrecondition(
            "MODEL_IN_USE",
            "templates name the model",
            {"templates": str(Template.select().where(Template.model == id).count())},
        ),
    ):
        model.delete_instance()


def hold(openai_id: str) -> Model:
    """Answer the model, which nobody can delete until the transaction ends."""
    for model in Model.lock(Model.openai_id == openai_id, mode="FOR KEY SHARE"):
        return model
    raise errors.not_found("MODEL", openai_id=openai_id)


def _locked(id: str, etag: str) -> Model:
    for model in Model.lock(Model.id == id):
        model.require_etag(etag)
        return model
    raise errors.not_found("MODEL", id=id)
