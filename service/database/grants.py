"""What the role that serves needs in the database."""

from collections.abc import Mapping, Sequence

_ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")

TABLES: Mapping[str, Sequence[str]] = dict.fromkeys(
    (
        "api_keys",
        "idempotency_keys",
        "openai_models",
        "organization_invitations",
        "organization_members",
        "organizations",
        "template_tools",
        "template_types",
        "templates",
        "user_template_selections",
        "users",
    ),
    _ALL,
) | dict.fromkeys(("changes", "registry", "schema_migrations"), ("SELECT",))
"""The rights on each table. What happened is written by triggers alone, and by migrations what the schema is."""

FUNCTIONS = ("purge_changes(integer, integer)", "renew_epoch()")
"""The functions that do what the role itself may not."""
