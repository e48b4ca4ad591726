"""The catalogue of models that templates may name."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple, TypeVar

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read, refused_by, transaction
from service.models.openai_models import OpenAIModel
from service.models.row import new_id
from service.models.templates import Template
from service.openai_gateway import ListedModel
from service.operations import rights
from service.operations.listing import Key, Page, Source
from service.rendering.responses import WARN_DAYS

T = TypeVar("T")


class Ending(NamedTuple):
    """A model that templates name, and that ends soon or has ended."""

    openai_id: str
    shutdown_date: date
    templates: int


class Refreshed(NamedTuple):
    changed: list[OpenAIModel]
    """As they are now, by openai_id."""
    unlisted: list[str]
    """The openai_ids that OpenAI does not list."""


_SOURCE = Source(
    keys="openai_models t",
    id="t.id",
    order=("t.name", "t.id"),
    message_size=OpenAIModel.message_size("t"),
    rows="openai_models t on t.id = page.id",
    select=OpenAIModel.columns("t"),
    of=OpenAIModel.of,
    key=lambda model: (model.name, model.id),
)


@transaction
def create(
    actor: Actor,
    *,
    openai_id: str,
    name: str,
    description: str = "",
    shutdown_date: date | None = None,
    input_price: Decimal | None = None,
    cached_input_price: Decimal | None = None,
    output_price: Decimal | None = None,
) -> OpenAIModel:
    """Add a model, or raise MODEL_ALREADY_EXISTS."""
    rights.administer(actor)
    return OpenAIModel.add(
        openai_id=openai_id,
        name=name,
        description=description,
        shutdown_date=shutdown_date,
        input_price=input_price,
        cached_input_price=cached_input_price,
        output_price=output_price,
    )


@read
def get(actor: Actor, **key: str) -> OpenAIModel:
    """Return the model of an `id` or an `openai_id`."""
    found = OpenAIModel.fetch_by(key, "id", "openai_id")
    if found is None:
        raise errors.not_found("MODEL", **key)
    return found


@read
def page(actor: Actor, *, shutting_down_before: date | None = None, after: Key | None, size: int) -> Page[OpenAIModel]:
    """Return the models, by name; those that end before a day, or all."""
    if shutting_down_before is None:
        return _SOURCE.page(after=after, size=size)
    return _SOURCE.page(where=["t.shutdown_date < %s"], parameters=[shutting_down_before], after=after, size=size)


def ask(actor: Actor, question: Callable[[], T]) -> T:
    """Call `question`, which asks OpenAI, for an actor that may change the catalogue."""
    rights.administer(actor)
    return question()


@transaction
def import_(actor: Actor, model: ListedModel) -> OpenAIModel:
    """Add a model as OpenAI describes it; one that is here keeps its name and description."""
    rights.administer(actor)
    insert = OpenAIModel.insert(
        id=new_id(),
        openai_id=model.openai_id,
        name=model.openai_id,
        description=f"OpenAI {model.openai_id} model",
        shutdown_date=model.shutdown_date,
    )
    added: list[OpenAIModel] = list(insert.on_conflict_ignore().returning(OpenAIModel).execute())
    if added:
        return added[0]
    found = OpenAIModel.lock_one(OpenAIModel.openai_id == model.openai_id)
    if found is None:
        # Deleted since the insert ran into it.
        raise errors.Aborted("CONFLICT", "another call deleted the model; nothing was written")
    return _refreshed(found, model)


@transaction
def refresh(actor: Actor, available: Sequence[ListedModel]) -> Refreshed:
    """Write the shutdown dates that OpenAI gives."""
    rights.administer(actor)
    by_id = {model.openai_id: model for model in available}
    changed, unlisted = [], []
    for model in sorted(OpenAIModel.lock(), key=lambda row: row.openai_id):
        if model.openai_id not in by_id:
            unlisted.append(model.openai_id)
            continue
        after = _refreshed(model, by_id[model.openai_id])
        if after is not model:
            changed.append(after)
    return Refreshed(changed, unlisted)


@read
def known(actor: Actor, openai_ids: Sequence[str]) -> set[str]:
    """Return which of the models are in the catalogue."""
    return {model.openai_id for model in OpenAIModel.fetch("where t.openai_id = any(%s)", [list(openai_ids)])}


@read
def ending(actor: Actor) -> list[Ending]:
    """Return the models of templates that end within 30 days or have ended, the first to end first."""
    found = database.execute_sql(
        """
        select openai_id, shutdown_date, (select count(*) from templates where model_id = m.id) as count
        from openai_models m
        where shutdown_date <= (now() at time zone 'UTC')::date + %s
          and exists (select from templates where model_id = m.id)
        order by shutdown_date, openai_id
        """,
        (WARN_DAYS,),
    ).fetchall()
    return [Ending(*row) for row in found]


@transaction
def update(actor: Actor, id: str, changes: Mapping[str, object], *, etag: str) -> OpenAIModel:
    """Write `changes`, unless `etag` is given and no longer current."""
    rights.administer(actor)
    return _locked(id, etag).change(**changes)


@transaction
def delete(actor: Actor, id: str, *, etag: str) -> None:
    """Delete a model, unless templates name it."""
    rights.administer(actor)
    model = _locked(id, etag)
    with refused_by(
        "templates_name_a_model",
        lambda: errors.FailedPrecondition(
            "MODEL_IN_USE",
            "templates name the model",
            {"templates": str(Template.count_in(rights.countable(actor), "model_id", id))},
        ),
    ):
        model.delete_instance()


def hold(openai_id: str) -> OpenAIModel:
    """Return the model, which nobody can delete until the transaction ends."""
    model = OpenAIModel.lock_one(OpenAIModel.openai_id == openai_id, mode="FOR KEY SHARE")
    if model is None:
        raise errors.not_found("MODEL", openai_id=openai_id)
    return model


def _refreshed(row: OpenAIModel, model: ListedModel) -> OpenAIModel:
    """Write the date that OpenAI gives; without one, a date that somebody entered stays."""
    return row if model.shutdown_date is None else row.change(shutdown_date=model.shutdown_date)


def _locked(id: str, etag: str) -> OpenAIModel:
    model = OpenAIModel.lock_one(OpenAIModel.id == id)
    if model is None:
        raise errors.not_found("MODEL", id=id)
    model.require_etag(etag)
    return model
