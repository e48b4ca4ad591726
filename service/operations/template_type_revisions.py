"""What types and their tools were before."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from service import errors
from service.actor import Actor
from service.database.handle import database
from service.database.transactions import read
from service.models.revisions import TOOLS
from service.models.row import OVERHEAD_BYTES, split
from service.models.template_types import TemplateTool, TemplateType
from service.operations import template_types
from service.operations.listing import Key, Page, Source


class _About(NamedTuple):
    """What is read of a revision beside what it says."""

    revision: int
    actor: str
    author_id: str | None
    create_time: datetime
    tools: Sequence[dict[str, Any]]


class TypeRevision(NamedTuple):
    about: _About
    template_type: TemplateType
    """As it was, with its tools."""


_SELECTED = f"r.revision, r.actor, r.author_id, r.create_time, {TOOLS}, {TemplateType.columns('t')}"
_THEN = "template_types base on base.id = r.template_type_id cross join lateral jsonb_populate_record(base, r.says) t"


def _of(values: Sequence[Any]) -> TypeRevision:
    about, rest = split(_About, values)
    template_type = TemplateType.of(rest)
    template_type.is_latest = template_type.revision == about.revision
    template_type.revision = about.revision
    template_type.tools = [TemplateTool.of_json(row | {"type_name": template_type.name}) for row in about.tools]
    return TypeRevision(about, template_type)


_SOURCE = Source(
    keys="template_type_revisions r",
    id="r.revision",
    order=("r.revision", "r.template_type_id"),
    descending=True,
    # The row of a tool as JSON is larger than its message without the schema.
    message_size=f"""
        octet_length(r.says::text) + octet_length(r.tools::text) + octet_length(r.actor) + {OVERHEAD_BYTES} + (
            select coalesce(sum(octet_length(content)), 0)
            from jsonb_array_elements(r.tools) tool join revision_texts
              on owner_id = r.template_type_id and digest = decode(tool ->> 'schema', 'hex')
        )
    """,
    rows=f"template_type_revisions r on r.revision = page.id and r.template_type_id = page.k1 join {_THEN}",
    select=_SELECTED,
    of=_of,
    key=lambda revision: (revision.about.revision, revision.template_type.id),
)


@read
def get(actor: Actor, template_type: str, revision: int) -> TypeRevision:
    """Return one revision of a type."""
    found = database.execute_prepared(
        f"select {_SELECTED} from template_type_revisions r join {_THEN} where base.name = %s and r.revision = %s",
        [template_type, revision],
    ).fetchone()
    if found is None:
        template_types.get(actor, name=template_type)
        raise errors.not_found("TEMPLATE_TYPE_REVISION", template_type=template_type, revision=str(revision))
    return _of(found)


@read
def page(actor: Actor, template_type: str, *, after: Key | None, size: int) -> Page[TypeRevision]:
    """Return the revisions of a type, newest first."""
    found = _SOURCE.page(
        where=["r.template_type_id = (select id from template_types where name = %s)"],
        parameters=[template_type],
        after=after,
        size=size,
    )
    if not found.rows:
        template_types.get(actor, name=template_type)
    return found
