"""What the log has of every write, whoever makes it: what changed, who it was, with which key and by which call."""

from collections import Counter

import pytest

from tests.contract.methods import WRITES
from tests.rights.cells import METHOD, request, thing
from tests.rights.requests import PREPARATIONS
from tests.rights.table import ROWS, Row
from tests.rights.world import CALLERS, Caller, World

AUDIT = {
    "ProvisionUser(clerk_id=own)": "",
    "ProvisionUser(clerk_id=missing)": "create user",
    "DeleteUser(id=recluse)": "delete user, delete invitation, delete api_key, delete processing_record",
    "CreateTemplateType(-=-)": "create template_type",
    "UpdateTemplateType(template_type.id=type)": "update template_type",
    "DeleteTemplateType(id=type)": "delete template_type",
    "CreateTemplateTool(template_tool.template_type=kind)": "create template_tool, update template_type",
    "UpdateTemplateTool(template_tool.id=tool)": "update template_tool, update template_type",
    "DeleteTemplateTool(id=tool)": "delete template_tool, update template_type",
    "CreateModel(-=-)": "create model",
    "UpdateModel(model.id=model)": "update model",
    "DeleteModel(id=model)": "delete model",
    "ImportModel(openai_id=gpt-5.5)": "create model",
    "RefreshModels(-=-)": "",
    "ReplaceModel(old_openai_id=gpt)": ", ".join(["update template"] * 15),
    "CreateTemplate(template.user_id=own)": "create template",
    "CreateTemplate(template.user_id=own, as default)": "create template, update template",
    "UpdateTemplate(template.id=wide-author)": "update template",
    "UpdateTemplate(template.id=wide-author, as default)": "update template, update template",
    "DeleteTemplate(id=wide-author)": "delete template",
    "UndeleteTemplate(id=wide-author)": "create template",
    # Nothing is copied there.
    "SyncTemplate(id=wide-author)": "",
    "RestoreTemplateRevision(template_id=wide-author)": "update template",
    "SetTemplateLabel(template_id=wide-author)": "update template",
    "DeleteTemplateLabel(template_id=wide-author)": "update template",
    "SetSelection(user_id=own)": "update selection",
    "DeleteSelection(user_id=own)": "delete selection",
    "CreateOrganization(user_id=own)": "create organization, create member",
    "UpdateOrganization(organization.id=house)": "update organization",
    "DeleteOrganization(id=annex)": (
        "delete organization, delete member, delete member, delete invitation, delete api_key,"
        " delete processing_record, delete processing_record, delete processing_record"
    ),
    "AddMember(member.organization_id=house)": "create member",
    "UpdateMember(member.id=house-viewer)": "update member",
    "UpdateMember(member.id=annex-deputy)": "update member, delete invitation",
    "RemoveMember(id=house-viewer)": "delete member, delete selection",
    "InviteMember(invitation.organization_id=house)": "create invitation",
    "AcceptInvitation(id=own)": "delete invitation, create member",
    "DeclineInvitation(id=own)": "delete invitation",
    "CreateApiKey(api_key.user_id=own)": "create api_key",
    "UpdateApiKey(api_key.id=own)": "update api_key",
    "RevokeApiKey(id=own)": "update api_key",
    "RotateApiKey(id=own)": "update api_key",
    # Usage is data, and no resource.
    "RecordUsage(usages[0].user_id=own)": "",
    "CreateProcessingRecord(record.user_id=own)": "create processing_record",
    "UpdateProcessingRecord(record.id=wide-of-author)": "",
    "CancelProcessing(id=wide-run-of-author)": "update processing_record",
    "RetryProcessing(id=wide-run-of-author)": "",
    "DeleteProcessingRecord(id=wide-of-author)": "delete processing_record",
}
"""What rows of the table change when they are done."""

AUDITED = [row for row in ROWS if str(row) in AUDIT]


def actor_of(caller: Caller) -> str:
    user = f"user:{caller.user}"
    if not caller.service:
        return user
    return f"service:{caller.service} for {user}" if caller.user else f"service:{caller.service}"


def test_every_write_has_a_row() -> None:
    assert {row.method for row in AUDITED} == {method.name for method in WRITES}
    assert len(AUDITED) == len(AUDIT)


@pytest.mark.parametrize("row", AUDITED, ids=str)
def test_a_write_leaves_what_the_table_says_and_one_that_is_rejected_leaves_nothing(world: World, row: Row) -> None:
    for caller in CALLERS.values():
        world.renew()
        if row.method in PREPARATIONS:
            world.prepare(PREPARATIONS[row.method])
        # What was deleted comes back from the log.
        ((last,),) = world.database.query("select max(seq) from changes")
        made = request(caller, row, thing(caller, row))
        made.request_id = f"of {caller.name}"  # type: ignore[attr-defined]
        answer = world.call(caller, METHOD[row.method], made)
        if is_done := answer.code == "OK":
            world.has_changed()
        found = world.database.query(
            "select action, kind, actor, api_key_id, method, request_id from changes where seq > %s", (last,)
        )
        changes = Counter(f"{action} {kind}" for action, kind, *_ in found)
        assert changes == Counter(AUDIT[str(row)].split(", ") if is_done and AUDIT[str(row)] else []), caller
        who = (actor_of(caller), caller.key or None, row.method, f"of {caller.name}")
        assert {tuple(by) for _, _, *by in found} <= {who}
