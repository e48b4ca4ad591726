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
    "PROCESSING_RECORD_NOT_FOUND",
    "PROCESSING_STATUS_PASSED",
    "PROCESSING_RUNNER_MISMATCH",
    "PROCESSING_NOT_RETRIABLE",
    "FILE_TOO_LARGE",
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
    "PROCESSING_RECORD",
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


def deadline_exceeded() -> DeadlineExceeded:
    return DeadlineExceeded("DEADLINE_EXCEEDED", "the deadline of the call ran out")
