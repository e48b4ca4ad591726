"""The comments of the protos say what the rules say, and the changelog names what the contract has gained."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from buf.validate import validate_pb2
from tests.conftest import ROOT
from tests.contract.methods import UPDATES, Method, bounds, writable

MESSAGE = FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER
SERVICE = FileDescriptorProto.SERVICE_FIELD_NUMBER
FIELD = DescriptorProto.FIELD_FIELD_NUMBER
METHOD = ServiceDescriptorProto.METHOD_FIELD_NUMBER

OPAQUE = {"etag", "page_token", "resume_token"}
"""A caller sends these back as it got them, and need not know how long they may be."""


def contract(source: str) -> list[FileDescriptorProto]:
    """Return our files of the protos or of the baseline."""
    buf = Path(sys.executable).with_name("buf")
    built = subprocess.run([buf, "build", source, "--output", "-"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    files = FileDescriptorSet.FromString(built.stdout).file
    return [file for file in files if file.package.startswith("omniflo.")]


@pytest.fixture(scope="module")
def protos() -> list[FileDescriptorProto]:
    return contract("protos")


@pytest.fixture(scope="module")
def comments(protos: list[FileDescriptorProto]) -> dict[str, str]:
    """Return the comments, each in one line, by `Message.field` or by `Service.Method`."""
    found = {}
    for file in protos:
        of = {tuple(place.path): " ".join(place.leading_comments.split()) for place in file.source_code_info.location}
        for i, message in enumerate(file.message_type):
            for j, field in enumerate(message.field):
                found[f"{message.name}.{field.name}"] = of[MESSAGE, i, FIELD, j]
        for i, service in enumerate(file.service):
            for j, method in enumerate(service.method):
                found[f"{service.name}.{method.name}"] = of[SERVICE, i, METHOD, j]
    return found


def spellings(bound: Any) -> list[str]:
    """Return how a comment may write a bound."""
    if isinstance(bound, Timestamp):
        return [str(bound.ToDatetime().year)]
    if isinstance(bound, Duration):
        return [str(bound.seconds), f"{bound.seconds / 3600:g}"]
    return ["0", "0.0", "negative"] if bound == 0 else [f"{bound:,}", f"{bound:,.1f}", f"{bound / 1024:g} KiB"]


def states(comment: str, bound: Any) -> bool:
    """Whether the comment has the bound, and not as a part of another number or with another unit."""
    return any(re.search(rf"(?<![\w.,-]){re.escape(text)}(?!\w|[.,]\d| [KMG]iB)", comment) for text in spellings(bound))


def test_a_comment_states_the_bounds_of_its_field(protos: list[FileDescriptorProto], comments: dict[str, str]) -> None:
    unstated = []
    for file in protos:
        for message in file.message_type:
            for field in message.field:
                comment = comments[f"{message.name}.{field.name}"]
                if other := re.search(r"as in (\w+)\.", comment):
                    comment += comments[f"{other[1]}.{field.name}"]
                unstated += [
                    f"{file.name}: the comment of {message.name}.{field.name} does not say {spellings(bound)[0]}"
                    for bound in bounds(field.options.Extensions[validate_pb2.field])
                    if field.name not in OPAQUE and not states(comment, bound)
                ]
    assert not unstated, "\n".join(unstated)


def test_a_list_of_kinds_can_have_all_of_them(protos: list[FileDescriptorProto]) -> None:
    counts = {f".{file.package}.{enum.name}": len(enum.value) - 1 for file in protos for enum in file.enum_type}
    lists = [
        f"{message.name}.{field.name}"
        for file in protos
        for message in file.message_type
        for field in message.field
        if field.label == field.LABEL_REPEATED and field.type == field.TYPE_ENUM
        if field.options.Extensions[validate_pb2.field].repeated.max_items < counts[field.type_name]
    ]
    assert not lists, "more values than max_items"


@pytest.mark.parametrize("method", UPDATES, ids=str)
def test_the_comment_of_an_update_names_the_fields_that_it_can_write(comments: dict[str, str], method: Method) -> None:
    comment = comments[f"{method.descriptor.containing_service.name}.{method.name}"]
    named = re.search(r": ([\w, ]+) (?:is|are) writable", comment)
    assert named, f"the comment of {method.name} begins like `Changes a template: title and model are writable.`"
    fields = {field.name for field in writable(method.resource)}
    differing = fields ^ {*re.split(", | and ", named[1])}
    assert not differing, f"the comment of {method.name} lacks these, or names them and must not"


def parts(files: list[FileDescriptorProto]) -> dict[str, set[str]]:
    """Return the fields of messages, the values of enums without their prefix, and the methods of services."""
    found: dict[str, set[str]] = {}
    for file in files:
        found |= {message.name: {field.name for field in message.field} for message in file.message_type}
        found |= {service.name: {method.name for method in service.method} for service in file.service}
        for enum in file.enum_type:
            prefix = enum.value[0].name.removesuffix("UNSPECIFIED")
            found[enum.name] = {value.name.removeprefix(prefix) for value in enum.value}
    # The table in docs/callers.md has each reason.
    del found["ErrorReason"]
    return found


def names(owner: str, part: str) -> list[set[str]]:
    """Return the names of which one entry of the changelog must have all of a set."""
    if part[0].isupper():
        return [{part}]
    method = re.sub("(Request|Response)$", "", owner)
    return [{f"{owner}.{part}"}, {owner, part}, {method, part}]


def test_the_changelog_names_what_the_contract_has_gained(protos: list[FileDescriptorProto]) -> None:
    text = (ROOT / "CHANGELOG.md").read_text().partition("## [Unreleased]")[2].partition("\n## [")[0]
    entries = [set(re.findall(r"`([\w.]+)`", entry)) for entry in text.split("\n- ")]
    before = parts(contract("protos/baseline.txtpb"))
    unnamed = [
        f"CHANGELOG.md, Unreleased: no entry names `{owner}.{part}`"
        for owner, now in parts(protos).items()
        # What is in a new message or enum comes with the method or the field that is of it.
        if owner in before or owner.endswith("Service")
        for part in sorted(now - before.get(owner, set()))
        if not any(wanted <= entry for wanted in names(owner, part) for entry in entries)
    ]
    assert not unnamed, "\n".join(unnamed)
