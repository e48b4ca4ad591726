"""The rights that are kept with answers: what one release has kept, the next one reads."""

import inspect

import pytest

from service.actor import SYSTEM
from service.errors import PermissionDenied
from service.operations import rights

KEPT = {
    "reach_as_far": ["organization_id"],
    "administer": [],
    "be_user": ["user_id"],
    "provision": ["user_id"],
    "delete_user": ["user_id"],
    "create_organization": [],
    "write_organization": ["organization_id"],
    "write_member": ["id", "organization_id"],
    "remove_member": ["id", "organization_id", "user_id"],
    "write_key": ["id", "user_id", "organization_id"],
    "make_secret": [],
    "write_own": ["organization_id"],
    "create_template": ["organization_id"],
    "write_template": ["id", "author_id", "organization_id"],
    "write_default": ["organization_id"],
}
"""What kept answers may name. A new right is a new line; a line is changed or removed only in a release after the one
that has stopped writing it."""


def test_the_rights_of_kept_answers_are_read_as_they_were_written() -> None:
    known = {name: list(inspect.signature(check).parameters)[1:] for name, check in rights.RIGHTS.items()}
    assert known == KEPT


def test_nobody_has_a_right_that_this_release_does_not_know() -> None:
    with pytest.raises(PermissionDenied):
        rights.require(SYSTEM, [["of_another_release", "about"]])
