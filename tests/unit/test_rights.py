"""The rights that are kept with answers: what one release has kept, the next one reads."""

import inspect
from importlib import import_module

import pytest

from service.actor import SYSTEM
from service.errors import PermissionDenied
from service.operations import kept_rights

KEPT = {
    "read_again": [],
    "reach_as_far": ["organization_id"],
    "administer": [],
    "be_user": ["user_id"],
    "provision": ["user_id"],
    "delete_user": ["user_id"],
    "create_organization": [],
    "write_organization": ["organization_id"],
    "add_member": ["organization_id"],
    "accept_invitation": ["id", "organization_id", "user_id"],
    "decline_invitation": ["id", "organization_id", "user_id"],
    "write_member": ["id", "organization_id"],
    "remove_member": ["id", "organization_id", "user_id"],
    "write_key": ["id", "user_id", "organization_id"],
    "make_secret": [],
    "make_key": ["until"],
    "extend_key": ["id", "now", "until"],
    "renew_key": ["id"],
    "write_own": ["organization_id"],
    "create_template": ["organization_id"],
    "write_template": ["id", "author_id", "organization_id"],
    "write_default": ["organization_id"],
    "write_label": ["id", "author_id", "organization_id", "label"],
    "write_record": ["id", "user_id", "organization_id"],
}
"""What kept answers may name. A new right is a new line; a line is changed or removed only in a release after the one
that has stopped writing it."""


def test_the_rights_of_kept_answers_are_read_as_they_were_written() -> None:
    for module in ("rights", "processing_rights"):
        import_module(f"service.operations.{module}")
    known = {name: list(inspect.signature(check).parameters)[1:] for name, check in kept_rights.RIGHTS.items()}
    assert known == KEPT


def test_nobody_has_a_right_that_this_release_does_not_know() -> None:
    with pytest.raises(PermissionDenied):
        kept_rights.require(SYSTEM, [["of_another_release", "about"]])
