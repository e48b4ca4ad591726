"""That an answer is replayed to whoever may still make the call, and to nobody else."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.message import Message

from tests.contract.methods import WRITES
from tests.rights.cells import METHOD, request, thing
from tests.rights.requests import PREPARATIONS
from tests.rights.table import ROWS
from tests.rights.world import CALLERS, Answer, Caller, World

ROW = {str(row): row for row in ROWS}

KEYS = {user: Caller(f"{user}'s key", user=user, key=f"key{user}") for user in ("author", "admin", "platform")}
READ_KEYS = {user: Caller(f"{user}'s READ key", user=user, key=f"key{user}read") for user in KEYS}
HOUSE_KEY = CALLERS["house key"]

LOSSES = {
    "removed": "delete from organization_members where organization_id = 'house' and user_id = '{}'",
    "demoted": "update organization_members set role = 'viewer' where organization_id = 'house' and user_id = '{}'",
    # Who the platform's admins are is said by their ids at Clerk.
    "dismissed": "update users set clerk_id = 'clerk-{0}' where id = '{0}'",
    # The caller is the same, and calls with its key for the house.
    "narrowed": "",
}

TABLE = """
CreateTemplateType(-=-)                                         platform dismissed PERMISSION_DENIED
UpdateTemplateType(template_type.id=type)                       platform dismissed PERMISSION_DENIED
DeleteTemplateType(id=type)                                     platform dismissed PERMISSION_DENIED
CreateTemplateTool(template_tool.template_type=kind)            platform dismissed PERMISSION_DENIED
UpdateTemplateTool(template_tool.id=tool)                       platform dismissed PERMISSION_DENIED
DeleteTemplateTool(id=tool)                                     platform dismissed PERMISSION_DENIED
CreateModel(-=-)                                                platform dismissed PERMISSION_DENIED
UpdateModel(model.id=model)                                     platform dismissed PERMISSION_DENIED
DeleteModel(id=model)                                           platform dismissed PERMISSION_DENIED
ImportModel(openai_id=gpt-5.5)                                  platform dismissed PERMISSION_DENIED
RefreshModels(-=-)                                              platform dismissed PERMISSION_DENIED
ReplaceModel(old_openai_id=gpt)                                 platform dismissed PERMISSION_DENIED
CreateTemplate(template.user_id=own)                            admin    narrowed  PERMISSION_DENIED
CreateTemplate(template.user_id=own, as default)                platform dismissed PERMISSION_DENIED
CreateTemplate(template.organization_id=house)                  author   demoted   PERMISSION_DENIED
CreateTemplate(template.organization_id=house)                  author   removed   ORGANIZATION_NOT_FOUND
CreateTemplate(template.organization_id=annex)                  admin    narrowed  ORGANIZATION_NOT_FOUND
CreateTemplate(template.organization_id=house, as default)      admin    demoted   PERMISSION_DENIED
UpdateTemplate(template.id=wide-author)                         platform dismissed PERMISSION_DENIED
UpdateTemplate(template.id=wide-admin)                          admin    narrowed  PERMISSION_DENIED
UpdateTemplate(template.id=wide-default, unmade)                platform dismissed PERMISSION_DENIED
UpdateTemplate(template.id=wide-default, moved)                 platform dismissed PERMISSION_DENIED
UpdateTemplate(template.id=house-template)                      author   demoted   PERMISSION_DENIED
UpdateTemplate(template.id=house-template)                      author   removed   TEMPLATE_NOT_FOUND
UpdateTemplate(template.id=house-template, as default)          admin    demoted   PERMISSION_DENIED
UpdateTemplate(template.id=house-default, unmade)               admin    demoted   PERMISSION_DENIED
UpdateTemplate(template.id=house-default, moved)                admin    demoted   PERMISSION_DENIED
UpdateTemplate(template.id=annex-template)                      admin    narrowed  TEMPLATE_NOT_FOUND
DeleteTemplate(id=wide-author)                                  platform dismissed PERMISSION_DENIED
DeleteTemplate(id=wide-admin)                                   admin    narrowed  PERMISSION_DENIED
DeleteTemplate(id=wide-default)                                 platform dismissed PERMISSION_DENIED
DeleteTemplate(id=house-template)                               author   demoted   PERMISSION_DENIED
DeleteTemplate(id=house-template)                               author   removed   TEMPLATE_NOT_FOUND
DeleteTemplate(id=annex-template)                               admin    narrowed  TEMPLATE_NOT_FOUND
UndeleteTemplate(id=wide-author)                                platform dismissed PERMISSION_DENIED
UndeleteTemplate(id=house-template)                             author   removed   TEMPLATE_NOT_FOUND
UndeleteTemplate(id=annex-template)                             admin    narrowed  TEMPLATE_NOT_FOUND
SyncTemplate(id=wide-author)                                    platform dismissed PERMISSION_DENIED
SyncTemplate(id=house-template)                                 author   demoted   PERMISSION_DENIED
RestoreTemplateRevision(template_id=wide-author)                platform dismissed PERMISSION_DENIED
RestoreTemplateRevision(template_id=house-template)             author   demoted   PERMISSION_DENIED
SetTemplateLabel(template_id=wide-author, production)           platform dismissed PERMISSION_DENIED
SetTemplateLabel(template_id=house-template)                    author   removed   TEMPLATE_NOT_FOUND
SetTemplateLabel(template_id=house-template, production)        admin    demoted   PERMISSION_DENIED
DeleteTemplateLabel(template_id=house-template)                 author   demoted   PERMISSION_DENIED
DeleteTemplateLabel(template_id=annex-template)                 admin    narrowed  TEMPLATE_NOT_FOUND
SetSelection(user_id=own, platform-wide)                        admin    narrowed  PERMISSION_DENIED
SetSelection(template_id=house-template)                        author   removed   ORGANIZATION_NOT_FOUND
SetSelection(organization_id=annex)                             admin    narrowed  ORGANIZATION_NOT_FOUND
DeleteSelection(user_id=own, platform-wide)                     admin    narrowed  PERMISSION_DENIED
DeleteSelection(organization_id=house)                          author   removed   ORGANIZATION_NOT_FOUND
DeleteSelection(organization_id=annex)                          admin    narrowed  ORGANIZATION_NOT_FOUND
CreateOrganization(user_id=own)                                 admin    narrowed  PERMISSION_DENIED
UpdateOrganization(organization.id=house)                       admin    demoted   PERMISSION_DENIED
UpdateOrganization(organization.id=house)                       admin    removed   ORGANIZATION_NOT_FOUND
UpdateOrganization(organization.id=annex)                       admin    narrowed  ORGANIZATION_NOT_FOUND
AddMember(member.organization_id=house)                         platform dismissed ORGANIZATION_NOT_FOUND
InviteMember(invitation.organization_id=house)                  admin    demoted   PERMISSION_DENIED
InviteMember(invitation.organization_id=house)                  admin    removed   ORGANIZATION_NOT_FOUND
InviteMember(invitation.organization_id=annex)                  admin    narrowed  ORGANIZATION_NOT_FOUND
AcceptInvitation(id=own)                                        admin    narrowed  INVITATION_NOT_FOUND
DeclineInvitation(id=own)                                       admin    narrowed  INVITATION_NOT_FOUND
DeclineInvitation(id=house-guest)                               admin    demoted   INVITATION_NOT_FOUND
DeclineInvitation(id=house-guest)                               admin    removed   INVITATION_NOT_FOUND
UpdateMember(member.id=house-viewer)                            admin    demoted   PERMISSION_DENIED
UpdateMember(member.id=house-viewer)                            admin    removed   MEMBER_NOT_FOUND
UpdateMember(member.id=annex-deputy)                            admin    narrowed  MEMBER_NOT_FOUND
RemoveMember(id=house-viewer)                                   admin    demoted   PERMISSION_DENIED
RemoveMember(id=house-viewer)                                   admin    removed   MEMBER_NOT_FOUND
RemoveMember(id=annex-admin)                                    admin    narrowed  MEMBER_NOT_FOUND
CreateApiKey(api_key.user_id=own)                               admin    narrowed  PERMISSION_DENIED
CreateApiKey(api_key.organization_id=house)                     author   removed   ORGANIZATION_NOT_FOUND
CreateApiKey(api_key.organization_id=annex)                     admin    narrowed  ORGANIZATION_NOT_FOUND
UpdateApiKey(api_key.id=own)                                    admin    narrowed  API_KEY_NOT_FOUND
UpdateApiKey(api_key.id=keyadminannex)                          admin    narrowed  API_KEY_NOT_FOUND
RevokeApiKey(id=keyadminannex)                                  admin    narrowed  API_KEY_NOT_FOUND
RotateApiKey(id=keyadminchild)                                  admin    narrowed  API_KEY_NOT_FOUND
RecordUsage(usages[0].user_id=missing)                          platform dismissed PERMISSION_DENIED
RecordUsage(usages[0].organization_id=none)                     admin    narrowed  PERMISSION_DENIED
RecordUsage(usages[0].organization_id=house)                    author   removed   ORGANIZATION_NOT_FOUND
RecordUsage(usages[0].organization_id=annex)                    admin    narrowed  ORGANIZATION_NOT_FOUND
CreateProcessingRecord(record.organization_id=house)            author   removed   ORGANIZATION_NOT_FOUND
CreateProcessingRecord(record.organization_id=annex)            admin    narrowed  ORGANIZATION_NOT_FOUND
UpdateProcessingRecord(record.id=wide-of-admin)                 admin    narrowed  PERMISSION_DENIED
UpdateProcessingRecord(record.id=house-of-author)               admin    demoted   PROCESSING_RECORD_NOT_FOUND
UpdateProcessingRecord(record.id=annex-of-admin)                admin    narrowed  PROCESSING_RECORD_NOT_FOUND
CancelProcessing(id=house-run-of-author)                         author   removed   PROCESSING_RECORD_NOT_FOUND
RetryProcessing(id=house-run-of-author)                          admin    demoted   PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord(id=house-of-author)                      author   removed   PROCESSING_RECORD_NOT_FOUND
DeleteProcessingRecord(id=annex-of-admin)                       admin    narrowed  PROCESSING_RECORD_NOT_FOUND
"""
"""The row of the matrix that is sent, by whom, what is lost then, and why the replay is refused."""

NEVER_LOST = {
    "ProvisionUser": "everybody may have oneself provisioned, and what services may is in the configuration",
    "DeleteUser": "everybody may delete oneself, and what services may is in the configuration",
    "DeleteOrganization": "the write ends the right itself",
}


@dataclass(frozen=True)
class Case:
    row: str
    user: str
    loss: str
    reason: str

    def __str__(self) -> str:
        return f"{self.row} {self.loss}"

    @property
    def caller(self) -> Caller:
        return KEYS[self.user]


def _case(line: str) -> Case:
    *row, user, loss, reason = line.split()
    return Case(" ".join(row), user, loss, reason)


CASES = [_case(line) for line in TABLE.splitlines() if line]

cases = pytest.mark.parametrize("case", CASES, ids=str)


def prepared(world: World, name: str, caller: Caller) -> tuple[str, Any]:
    """Answer the method of a row of the matrix and its request, with a request_id, and make it succeed."""
    row = ROW[name]
    if row.method in PREPARATIONS:
        world.prepare(PREPARATIONS[row.method])
    made: Any = request(caller, row, thing(caller, row))
    made.request_id = "order-17"
    return row.method, made


def done(world: World, caller: Caller, method: str, made: Message) -> Answer:
    """Make a call that must succeed."""
    world.has_changed()
    answer = world.call(caller, METHOD[method], made)
    assert answer.code == "OK", answer
    return answer


def without_secret(answer: Answer) -> Any:
    kept: Any = deepcopy(answer.response)
    if "secret" in kept.DESCRIPTOR.fields_by_name:
        kept.ClearField("secret")
    return kept


def test_every_write_is_replayed_here() -> None:
    methods = {ROW[case.row].method for case in CASES}
    assert methods | set(NEVER_LOST) == {method.name for method in WRITES}
    assert not methods & set(NEVER_LOST)


@cases
def test_a_replay_is_answered_as_long_as_the_right_is_there(fresh: World, case: Case) -> None:
    method, made = prepared(fresh, case.row, case.caller)
    answer = done(fresh, case.caller, method, made)
    after = fresh.contents()
    assert done(fresh, case.caller, method, made).response == without_secret(answer)
    assert fresh.contents() == after


@cases
def test_a_replay_is_refused_as_the_call_is_once_the_right_is_gone(fresh: World, case: Case) -> None:
    method, made = prepared(fresh, case.row, case.caller)
    done(fresh, case.caller, method, made)
    replays = HOUSE_KEY if case.loss == "narrowed" else case.caller
    if loss := LOSSES[case.loss]:
        fresh.prepare(loss.format(case.user))
    after = fresh.contents()
    answer = fresh.call(replays, METHOD[method], made)
    code = "PERMISSION_DENIED" if case.reason == "PERMISSION_DENIED" else "NOT_FOUND"
    assert (answer.code, answer.reason) == (code, case.reason), answer
    assert fresh.contents() == after


@pytest.mark.parametrize("case", {case.row: case for case in CASES}.values(), ids=lambda case: case.row)
def test_a_read_key_replays_no_write_of_its_owner(fresh: World, case: Case) -> None:
    method, made = prepared(fresh, case.row, case.caller)
    done(fresh, case.caller, method, made)
    after = fresh.contents()
    answer = fresh.call(READ_KEYS[case.user], METHOD[method], made)
    assert (answer.code, answer.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert fresh.contents() == after


@pytest.mark.parametrize(
    "row",
    [
        "DeleteOrganization(id=house)",
        "UpdateMember(member.id=house-admin)",
        "RemoveMember(id=house-admin)",
        "RemoveMember(id=house-author)",
    ],
)
def test_a_write_that_ends_its_own_right_is_replayed_to_its_caller(fresh: World, row: str) -> None:
    caller = KEYS["author" if "author" in row else "admin"]
    method, made = prepared(fresh, row, caller)
    answer = done(fresh, caller, method, made)
    after = fresh.contents()
    assert done(fresh, caller, method, made).response == answer.response
    assert fresh.contents() == after
    refused = fresh.call(READ_KEYS[caller.user], METHOD[method], made)
    assert refused.code == "PERMISSION_DENIED"


def test_a_service_replays_the_deletion_of_a_user(fresh: World) -> None:
    method, made = prepared(fresh, "DeleteUser(id=recluse)", CALLERS["writer"])
    done(fresh, CALLERS["writer"], method, made)
    done(fresh, CALLERS["writer"], method, made)


def test_a_replay_by_another_caller_is_another_call(fresh: World) -> None:
    method, made = prepared(fresh, "UpdateTemplate(template.id=house-template)", KEYS["author"])
    done(fresh, KEYS["author"], method, made)
    for name in ("member", "viewer", "writer"):
        assert fresh.call(name, METHOD[method], made).code in {"PERMISSION_DENIED", "NOT_FOUND"}
