"""Revisions: what templates and types said, each time that they changed. Triggers of the migrations write them."""

import functools

import peewee as pw

from service.database.handle import database
from service.models.row import Moment, Text
from service.models.template_types import Tool
from service.models.templates import Template

UNREVISED = frozenset(
    {
        "assistant_id",
        "create_time",
        "id",
        "is_default",
        "labels",
        "organization_id",
        "revision",
        "scope",
        "tags",
        "update_time",
        "user_id",
        "version",
    }
)
"""The columns of a template that are no part of a revision, as `template_says` in the migrations has them."""

TEXTS = frozenset({"instructions", "response_format"})
"""The long texts, of which a revision has the digest."""

LATEST = "latest"
"""The label that is always on the newest revision."""


class RevisionText(pw.Model):
    """A long text of revisions."""

    owner_id = Text()
    """The template or the type that they are of."""
    digest = pw.BlobField()
    """SHA-256 of the text as UTF-8."""
    content = pw.TextField()

    class Meta:
        database = database
        table_name = "revision_texts"
        primary_key = pw.CompositeKey("owner_id", "digest")


class TemplateRevision(pw.Model):
    template_id = Text()
    revision = pw.BigIntegerField()
    says = pw.JSONField()
    """The other columns of the template, and `template_type` and `model`: the names of what it refers to."""
    instructions_digest = pw.BlobField()
    response_format_digest = pw.BlobField(null=True)
    message = pw.TextField()
    actor = Text()
    """Empty of what was there before revisions were kept."""
    author_id = Text(null=True)
    """None where the actor is no user."""
    create_time = Moment()

    class Meta:
        database = database
        table_name = "template_revisions"
        primary_key = pw.CompositeKey("template_id", "revision")


class TemplateTypeRevision(pw.Model):
    template_type_id = Text()
    revision = pw.BigIntegerField()
    says = pw.JSONField()
    tools = pw.JSONField()
    """The rows of its tools, each with the digest of its schema instead of that."""
    actor = Text()
    author_id = Text(null=True)
    create_time = Moment()

    class Meta:
        database = database
        table_name = "template_type_revisions"
        primary_key = pw.CompositeKey("template_type_id", "revision")


@functools.cache
@functools.cache
def revised(chosen: str, *, where: str = "true") -> str:
    """Return the templates `t`, each in the revision that the query `chosen` gives for the template `base`.

    It gives the number, and the label by which it was found, if by one. `t.revision` is null where there is none.
    """
    columns = {
        column: f"case when r.says is null then base.{column} else was.{column} end" for column in Template.names()
    }
    columns |= {column: f"base.{column}" for column in UNREVISED}
    for name in TEXTS:
        columns[name] = f"""case when r.says is null then base.{name} else (
            select content from revision_texts where owner_id = r.template_id and digest = r.{name}_digest
        ) end"""
    columns["revision"] = "case when chosen.revision = base.revision then base.revision else r.revision end"
    # `offset 0` keeps the planner from joining by the template alone, which reads all of its revisions, and from making
    # a record where there is no earlier revision.
    return f"""lateral (
        select {", ".join(f"{columns[name]} as {name}" for name in Template.names())},
          base.xmin as xmin, base.revision as latest, chosen.label as label,
          r.says ->> 'template_type' as type_name, r.says ->> 'model' as openai_id
        from templates base
        left join lateral {chosen} chosen (revision, label) on true
        left join lateral (
          select * from template_revisions
          where template_id = base.id and revision = nullif(chosen.revision, base.revision)
          offset 0
        ) r on true
        left join lateral (
          select row.* from jsonb_populate_record(null::templates, r.says) row where r.says is not null offset 0
        ) was on true
        where {where}
    ) t"""


BY_NUMBER = "(select %s::bigint, '')"
"""Chooses a revision."""

BY_LABELS = f"""(
    select case label when '{LATEST}' then base.revision else (base.labels ->> label)::bigint end, label
    from unnest(%s::text[]) with ordinality wanted (label, place)
    where label = '{LATEST}' or base.labels ? label
    order by place limit 1
)"""
"""Chooses that of the first label that the template has."""


TOOLS = """(
    select coalesce(jsonb_agg(tool.row || jsonb_build_object('schema', text.content) order by tool.place), '[]')
    from jsonb_array_elements(r.tools) with ordinality tool (row, place)
    left join revision_texts text
      on text.owner_id = r.template_type_id and text.digest = decode(tool.row ->> 'schema', 'hex')
)"""
"""The rows of the tools of a revision `r` of a type, by name."""


def tools_of(type_id: str, revision: int) -> list[Tool] | None:
    """Return the tools of a revision of a type, by name, as a rendering needs them; None where there is none."""
    found = database.execute_prepared(
        f"select {TOOLS} from template_type_revisions r where r.template_type_id = %s and r.revision = %s",
        [type_id, revision],
    ).fetchone()
    return None if found is None else [Tool._make(row[name] for name in Tool._fields) for row in found[0]]
