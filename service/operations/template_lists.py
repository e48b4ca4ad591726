"""The templates that a caller finds: by filters, by tags, and by words."""

from collections.abc import Sequence
from contextlib import nullcontext
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
        # Hidden from PostgreSQL: for an author who is frequent anywhere, it would walk through the scope.
        filters.append(("t.user_id = (select %s)", user_id))
    if is_default is not None:
        filters.append(("t.is_default = %s", is_default))
    if model_shutting_down_before is not None:
        condition = "t.model_id in (select id from openai_models where shutdown_date < %s)"
        filters.append((condition, model_shutting_down_before))
    if assistant_state is not None:
        filters.append((_in_state(assistant_state), assistant_state))
    is_search = bool(query.strip())
    with template_search.bounded(actor) if is_search else nullcontext():
        return (_found_page if is_search else _page)(
            actor,
            organization_id,
            filters,
            query if is_search else "",
            tags,
            # There is one default for each type.
            are_sorted=bool(is_default),
            are_few=bool(user_id or is_default),
            view=view,
            after=after,
            size=size,
        )


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
    tags: Sequence[str],
    *,
    are_sorted: bool,
    are_few: bool,
    view: View,
    after: Key | None,
    size: int,
) -> Page[Template]:
    parts, part_parameters = rights.scopes(actor)
    if organization_id is not None:
        organizations.get(actor, organization_id)
        parts, part_parameters = "select %s", [organization_id]
    # Hidden from PostgreSQL, which would choose by how much others have.
    parts = f"select scope from ({parts}) readable (scope) offset 0"
    in_part, order = "t.scope = part.scope", "t.create_time"
    find, conditions = template_search.conditions(query, tags)
    if find and not are_few and template_search.are_rare(find, parts, part_parameters):
        # By the indexes of words and tags alone: those of the filters would be read for all scopes.
        are_sorted, in_part = True, template_search.IN_PART
        conditions, filters = find, template_search.unindexed(filters)
    if are_sorted:
        # No index has this order.
        order += " + interval '0'"
    conditions = [*filters, *conditions]
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
        parts=parts,
        part_parameters=part_parameters,
        where=[in_part, *(condition for condition, _ in conditions)],
        parameters=[value for _, value in conditions],
        after=after,
        size=size,
    )


# In a transaction, whose timeout ends a search on the server as well.
_found_page = transaction(_page)
