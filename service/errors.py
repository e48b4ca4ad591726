"""What can go wrong, by name: raised below, and turned into a status by the outermost interceptors."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

Reason = Literal[
    "FIELD_INVALID",
    "REQUEST_MALFORMED",
    "PAGE_TOKEN_INVALID",
    "REQUEST_ID_REUSED",
    "USER_NOT_FOUND",
    "TEMPLATE_TYPE_NOT_FOUND",
    "TEMPLATE_TOOL_NOT_FOUND",
    "MODEL_NOT_FOUND",
    "TEMPLATE_NOT_FOUND",
    "SELECTION_NOT_FOUND",
    "NO_TEMPLATE_RESOLVED",
    "TEMPLATE_TYPE_ALREADY_EXISTS",
    "TEMPLATE_TOOL_ALREADY_EXISTS",
    "MODEL_ALREADY_EXISTS",
    "USER_IN_USE",
    "TEMPLATE_TYPE_IN_USE",
    "MODEL_IN_USE",
    "TEMPLATE_SELECTED",
    "TEMPLATE_TYPE_MISMATCH",
    "TEMPLATE_TYPE_FULL",
    "ETAG_MISMATCH",
    "REQUEST_IN_PROGRESS",
    "CONFLICT",
    "DATABASE_UNAVAILABLE",
    "COMMIT_UNKNOWN",
    "DEADLINE_EXCEEDED",
    "RESPONSE_TOO_LARGE",
    "OPENAI_NOT_CONFIGURED",
    "OPENAI_MODEL_NOT_FOUND",
    "OPENAI_UNAVAILABLE",
    "OPENAI_RATE_LIMITED",
    "OPENAI_REFUSED",
    "UNAUTHENTICATED",
    "SESSION_KEYS_UNAVAILABLE",
    "PERMISSION_DENIED",
    "ORGANIZATION_NOT_FOUND",
    "MEMBER_NOT_FOUND",
    "API_KEY_NOT_FOUND",
    "MEMBER_ALREADY_EXISTS",
    "ORGANIZATION_IN_USE",
    "LAST_ADMIN",
    "TEMPLATE_ORGANIZATION_MISMATCH",
    "API_KEY_REVOKED",
    "STREAM_ENDED",
    "REQUEST_TOO_LARGE",
    "OVERLOADED",
    "INVITATION_NOT_FOUND",
    "INVITATION_ALREADY_EXISTS",
    "ORGANIZATION_CLOSED",
    "QUOTA_EXCEEDED",
    "ANSWER_NOT_KEPT",
    "RESUME_TOKEN_EXPIRED",
    "WATCH_TOO_SLOW",
    "TEMPLATE_REVISION_NOT_FOUND",
    "TEMPLATE_TYPE_REVISION_NOT_FOUND",
    "LABEL_NOT_FOUND",
    "LABEL_MOVED",
    "TEMPLATE_LABELED",
    "TEMPLATE_LABELS_FULL",
    "TEMPLATE_ALREADY_EXISTS",
    "INTERNAL",
]
"""The values of `ErrorReason` in the protos without their prefix; error_reason.proto explains each."""

Cause = Literal[
    "no_credential",
    "header_malformed",
    "user_beside_token",
    "user_of_reader",
    "user_unknown",
    "user_without_authentication",
    "sessions_off",
    "session_malformed",
    "session_header",
    "session_algorithm",
    "session_key_unknown",
    "session_signature",
    "session_without_exp",
    "session_without_iss",
    "session_without_nbf",
    "session_without_sid",
    "session_without_sub",
    "session_without_azp",
    "session_expired",
    "session_too_early",
    "session_issuer",
    "session_party",
    "session_status",
    "session_claim",
    "key_malformed",
    "key_unknown",
    "key_secret",
    "key_over",
    "service_unknown",
    "service_ambiguous",
    "service_is_proxy",
    "proxy_header_off",
    "proxy_header_malformed",
    "proxy_unknown",
]
"""Why a call is UNAUTHENTICATED: for the log alone. docs/operators.md explains each."""

Entity = Literal[
    "USER",
    "TEMPLATE_TYPE",
    "TEMPLATE_TOOL",
    "MODEL",
    "TEMPLATE",
    "SELECTION",
    "ORGANIZATION",
    "MEMBER",
    "API_KEY",
    "INVITATION",
    "TEMPLATE_REVISION",
    "TEMPLATE_TYPE_REVISION",
]


class Error(Exception):
    """A failure that a caller is told about.

    `message` is for people and holds no text of the caller's. `metadata` is what the ErrorInfo carries. `violations`
    are pairs of a field's path and what it must be.
    """

    code: ClassVar[str]
    """The canonical gRPC code."""
    retry_seconds: float | None = None
    """When a caller may try again, where waiting helps."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        metadata: Mapping[str, str] | None = None,
        *,
        violations: Sequence[tuple[str, str]] = (),
        retry_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = violations
        if retry_seconds is not None:
            self.retry_seconds = retry_seconds


class InvalidArgument(Error):
    code = "INVALID_ARGUMENT"


class Unauthenticated(Error):
    """The one error for every caller without credentials that count. It does not tell the caller which cause it has."""

    code = "UNAUTHENTICATED"

    def __init__(self, cause: Cause) -> None:
        super().__init__(
            "UNAUTHENTICATED",
            "the call needs a session, an API key or the certificate of a service, and has none that counts",
        )
        self.cause = cause


class PermissionDenied(Error):
    code = "PERMISSION_DENIED"


class NotFound(Error):
    code = "NOT_FOUND"


class AlreadyExists(Error):
    code = "ALREADY_EXISTS"


class FailedPrecondition(Error):
    code = "FAILED_PRECONDITION"


class Aborted(Error):
    code = "ABORTED"


class OutOfRange(Error):
    code = "OUT_OF_RANGE"


class Unavailable(Error):
    code = "UNAVAILABLE"
    retry_seconds = 1.0


class DeadlineExceeded(Error):
    code = "DEADLINE_EXCEEDED"


class ResourceExhausted(Error):
    code = "RESOURCE_EXHAUSTED"


class Internal(Error):
    code = "INTERNAL"


def not_found(what: Entity, **key: str) -> NotFound:
    """Say that nothing has this key; `what` is the entity as its reason spells it."""
    reason = cast("Reason", f"{what}_NOT_FOUND")
    return NotFound(reason, f"the {what.lower().replace('_', ' ')} does not exist", key)


def field_invalid(*violations: tuple[str, str]) -> InvalidArgument:
    """Say that fields break their rules, each by its path and what it must be."""
    return InvalidArgument("FIELD_INVALID", "a field of the request breaks its rule", violations=violations)


def violated(constraint: str | None) -> Error | None:
    """Return the error of a violated constraint, or None when there is none by that name."""
    error = CONSTRAINTS.get(constraint or "")
    # A new one for each call that raises it: an exception carries its own traceback.
    return error and type(error)(error.reason, error.message, error.metadata, violations=error.violations)


def deadline_exceeded() -> DeadlineExceeded:
    return DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline of the call ran out")


_CONFLICT = Aborted("CONFLICT", "other calls changed the same rows; nothing was written")


def _taken(reason: Reason, what: str, field: str) -> Error:
    return AlreadyExists(reason, f"{what} exists already", {"field": field})


CONSTRAINTS: Mapping[str, Error] = {
    # Rules that a caller can break at any time.
    "template_types_name_is_unique": _taken(
        "TEMPLATE_TYPE_ALREADY_EXISTS", "a template type of this name", "template_type.name"
    ),
    "template_tools_name_and_type_are_unique": _taken(
        "TEMPLATE_TOOL_ALREADY_EXISTS", "a tool of this name and type", "template_tool.name"
    ),
    "openai_models_openai_id_is_unique": _taken("MODEL_ALREADY_EXISTS", "a model of this openai_id", "model.openai_id"),
    "organization_members_organization_and_user_are_unique": _taken(
        "MEMBER_ALREADY_EXISTS", "a membership of the user in the organization", "member.user_id"
    ),
    "organization_invitations_organization_and_user_are_unique": _taken(
        "INVITATION_ALREADY_EXISTS", "an invitation of the user to the organization", "invitation.user_id"
    ),
    # What a reference needs; operations look first to name the key, these hold when it vanishes meanwhile.
    "template_tools_belong_to_a_type": not_found("TEMPLATE_TYPE"),
    "templates_have_an_author": not_found("USER"),
    "templates_are_of_a_type": not_found("TEMPLATE_TYPE"),
    "templates_name_a_model": not_found("MODEL"),
    "user_template_selections_belong_to_a_user": not_found("USER"),
    "user_template_selections_are_of_a_template_of_their_type": FailedPrecondition(
        "TEMPLATE_TYPE_MISMATCH", "the template is of another type than the selection"
    ),
    "organization_members_belong_to_an_organization": not_found("ORGANIZATION"),
    "organization_members_belong_to_a_user": not_found("USER"),
    "organization_invitations_belong_to_an_organization": not_found("ORGANIZATION"),
    "organization_invitations_are_for_a_user": not_found("USER"),
    "organization_invitations_are_made_by_a_member": not_found("ORGANIZATION"),
    "templates_belong_to_an_organization": not_found("ORGANIZATION"),
    "user_template_selections_are_of_a_template_within_reach": FailedPrecondition(
        "TEMPLATE_ORGANIZATION_MISMATCH", "the template belongs to another organization than the selection"
    ),
    "user_template_selections_belong_to_a_member": not_found("ORGANIZATION"),
    "api_keys_belong_to_a_user": not_found("USER"),
    "api_keys_belong_to_a_member": not_found("ORGANIZATION"),
    "api_keys_belong_to_a_parent": not_found("API_KEY"),
    # What locks and upserts prevent; behind them these hold, and a retry succeeds.
    "users_clerk_id_is_unique": _CONFLICT,
    "templates_id_type_and_scope_are_unique": _CONFLICT,
    "templates_one_default_for_each_scope_and_type": _CONFLICT,
    "user_template_selections_one_for_each_user_scope_and_type": _CONFLICT,
    # What the rules in the protos refuse before.
    "users_clerk_id_within_bounds": field_invalid(("clerk_id", "must be 1 to 255 characters")),
    "template_types_name_is_hyphenated_words": field_invalid(
        ("template_type.name", "must be at most 64 characters, lower-case words joined by hyphens")
    ),
    "template_types_description_within_bounds": field_invalid(
        ("template_type.description", "must be at most 2000 characters")
    ),
    "template_tools_name_within_bounds": field_invalid(
        ("template_tool.name", "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    ),
    "template_tools_description_within_bounds": field_invalid(
        ("template_tool.description", "must be at most 1024 characters")
    ),
    "template_tools_only_functions_have_a_schema": field_invalid(
        ("template_tool.schema", "is required for a FUNCTION tool and refused for the others")
    ),
    "template_tools_schema_within_bounds": field_invalid(("template_tool.schema", "must be at most 65536 bytes")),
    "template_tools_config_fits_type": field_invalid(("template_tool.config", "must fit the type of the tool")),
    "openai_models_openai_id_within_bounds": field_invalid(
        ("model.openai_id", "must be 1 to 128 printable ASCII characters without spaces")
    ),
    "openai_models_name_within_bounds": field_invalid(("model.name", "must be 1 to 256 characters")),
    **{
        f"openai_models_{price}_within_bounds": field_invalid((f"model.{price}", "must be 0 to 1000000 USD"))
        for price in ("input_price", "cached_input_price", "output_price")
    },
    "openai_models_description_within_bounds": field_invalid(("model.description", "must be at most 2000 characters")),
    "templates_title_within_bounds": field_invalid(("template.title", "must be 1 to 256 characters")),
    "templates_description_within_bounds": field_invalid(("template.description", "must be at most 2000 characters")),
    "templates_instructions_within_bounds": field_invalid(("template.instructions", "must be 1 to 256000 characters")),
    "templates_labels_fit": FailedPrecondition("TEMPLATE_LABELS_FULL", "the template may have at most 32 labels"),
    "user_template_selections_revision_from_one": field_invalid(("revision", "must be at least 1")),
    "organizations_name_within_bounds": field_invalid(("organization.name", "must be 1 to 128 characters")),
    "api_keys_name_within_bounds": field_invalid(("api_key.name", "must be 1 to 128 characters")),
    "templates_temperature_within_bounds": field_invalid(("template.temperature", "must be 0 to 2")),
    "templates_variables_within_bounds": field_invalid(
        (
            "template.variables",
            "must be at most 64 of different names, with descriptions of at most 128 and default values of at most 256",
        )
    ),
    "templates_response_format_within_bounds": field_invalid(
        ("template.response_format", "must be at most 65536 bytes")
    ),
    "templates_max_output_tokens_within_bounds": field_invalid(("template.max_output_tokens", "must be 16 to 1000000")),
    "templates_top_p_within_bounds": field_invalid(("template.top_p", "must be 0 to 1")),
    "templates_tool_choice_within_bounds": field_invalid(
        ("template.tool_choice", "must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    ),
    "templates_disabled_tools_within_bounds": field_invalid(
        ("template.disabled_tools", "must be at most 128 names of 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    ),
    "templates_tags_within_bounds": field_invalid(
        ("template.tags", "must be at most 16 of 1 to 64 characters of a-z, 0-9, ., _, / and -")
    ),
}
"""What a caller is told when the database refuses, by the name of the constraint."""
