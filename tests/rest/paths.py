"""The paths of methods over HTTP, as `google.api.http` has them."""

import re
from collections.abc import Iterator

from google.api import annotations_pb2

from tests.contract.methods import Method

VARIABLE = re.compile(r"\{([\w.]+)\}")


def bindings(method: Method) -> Iterator[tuple[str, str, str]]:
    """Yield the verb, the path and the body of each."""
    rule = method.descriptor.GetOptions().Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        verb = binding.WhichOneof("pattern")
        if verb is not None:
            yield verb, getattr(binding, verb), binding.body
