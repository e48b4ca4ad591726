"""The templates that a caller finds: by filters, and by words."""

from collections.abc import Sequence
from datetime import date

from service.actor import Actor
from service.database.transactions import read, transaction
from service.models.assistants import Copies
from service.models.templates import Template, View, joined, message_size, selected
from service.operations import organizations, rights, template_search
from service.operations.listing import Key, Page, Source


def page(
    actor: Actor,
    *,
    organization_id: str | None = None,
    template_type: str = "",
    model: str = "",
    user_id: str = "",
    is_default: bool | None = None,
    query: str = "",
    tags: Sequence[str] = (),
    model_shutting_down_before: date | None = None,
    assistant_state: str | None = None,
    view: View,
    after: Key | None,
    size: int,
) -> Page[Template]:
    """Return the templates that meet all filters, newest first, of those that the actor may read.

    Empty and None filter nothing.
    """
    filters: list[tuple[str, object]] = []
    if template_type:
        filters.append(("t.template_type_id = (select id from template_types where name = %s)", template_type))
    if model:
        filters.append(("t.model_id = (select id from openai_models where openai_id = %s)", model))
    if user_id:
        filters.append(("t.user_id = %s", user_id))
    if is_default is not None:
        filters.append(("t.is_default = %s", is_default))
    if model_shutting_down_before is not None:
        condition = "t.model_id in (select id from openai_models where shutdown_date < %s)"
        filters.append((condition, model_shutting_down_before))
    if tags:
        filters.append(("tag_paths(t.tags) @> %s::text[]", list(tags)))
    if assistant_state is not None:
        filters.append((_in_state(assistant_state), assistant_state))
    if not query.strip():
        return _page(actor, organization_id, filters, "", view=view, after=after, size=size)
    with template_search.bounded(actor):
        return _found_page(actor, organization_id, filters, query, view=view, after=after, size=size)


def _in_state(assistant_state: str) -> str:
    if not Copies.are_shown:
        return "%s = 'none'"
    if assistant_state == "none":
        # Most have no row.
        return "not exists (select from assistants where template_id = t.id and state <> %s)"
    return "t.id in (select template_id from assistants where state = %s)"


@read
def _page(
    actor: Actor,
    organization_id: str | None,
    filters: Sequence[tuple[str, object]],
    query: str,
    *,
    view: View,
    after: Key | None,
    size: int,
) -> Page[Template]:
    parts, part_parameters = rights.scopes(actor)
    if organization_id is not None:
        organizations.get(actor, organization_id)
        parts, part_parameters = "select %s", [organization_id]
    conditions = list(filters)
    order = "t.create_time"
    if query:
        words = template_search.words_of(query)
        way = template_search.way(words, parts, part_parameters)
        conditions.append((way.condition, words))
        if way is template_search.Way.FIND_AND_SORT:
            # No index has this order.
            order += " + interval '0'"
    return Source(
        keys="templates t",
        id="t.id",
        order=(order, "t.id"),
        descending=True,
        message_size=message_size(view),
        rows=f"{joined(view)} on t.id = page.id",
        select=selected(view),
        of=lambda values: Template.of_view(view, values),
        key=lambda template: (template.create_time, template.id),
    ).page(
        parts=f"select scope from ({parts}) readable (scope)",
        part_parameters=part_parameters,
        where=["t.scope = part.scope", *(condition for condition, _ in conditions)],
        parameters=[value for _, value in conditions],
        after=after,
        size=size,
    )


# In a transaction, whose timeout ends a search on the server as well.
_found_page = transaction(_page)
