"""Errors to google.rpc.Status, as callers see them."""

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from service import errors

DOMAIN = "templates.omniflo"
MAX_VIOLATIONS = 20
MAX_OCTETS = 4096
"""The most that the details of an error take: they travel as metadata, of which a client reads 8 KiB."""


def of(error: errors.Error) -> Status:
    """Return the status of an error, with exactly one ErrorInfo."""
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    details: list[BadRequest | RetryInfo] = []
    if error.violations:
        details.append(_bad_request(error, info))
    if error.retry_seconds is not None:
        retry = RetryInfo(retry_delay=Duration())
        retry.retry_delay.FromMilliseconds(int(error.retry_seconds * 1000))
        details.append(retry)
    status = Status(code=Code.Value(error.code), message=error.message)
    for detail in (info, *details):
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(error: errors.Error, info: ErrorInfo) -> BadRequest:
    """Return as many violations as fit, and count the others in the metadata of the ErrorInfo."""
    bad_request = BadRequest()
    for field, description in error.violations[:MAX_VIOLATIONS]:
        violation = bad_request.field_violations.add(field=field, description=description)
        if info.ByteSize() + bad_request.ByteSize() > MAX_OCTETS - 500:
            bad_request.field_violations.remove(violation)
            break
    if more := len(error.violations) - len(bad_request.field_violations):
        info.metadata["more_violations"] = str(more)
    return bad_request
