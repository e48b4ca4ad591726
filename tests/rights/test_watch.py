"""Who is told of which change, and what of it; and that nobody is told more once its rights have changed."""

from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from omniflo.templates.v1.change_pb2 import Change, ChangeKind
from omniflo.templates.v1.change_service_pb2 import ListChangesRequest, WatchChangesRequest
from tests.conftest import Failure
from tests.e2e.serving import eventually
from tests.e2e.watching import Watcher
from tests.rights.world import CALLERS, KEYS, MEMBERS, Caller, World

SEES_ALL = {"platform", "reader", "writer", "root", "root for platform"}
AUDITS_ALL = {"platform", "root", "root for platform"}

TOUCHED = {
    "template_type": ("template_types", "type"),
    "template_tool": ("template_tools", "tool"),
    "model": ("openai_models", "model"),
    "template": ("templates", "wide-author", "house-removed", "house-template", "annex-template", "foreign-template"),
    "organization": ("organizations", "house", "annex", "foreign"),
    "member": ("organization_members", "house-deputy", "annex-deputy"),
    "invitation": ("organization_invitations", "guild-author", "house-guest"),
    "selection": ("user_template_selections", "wide-author", "house-author", "wide-admin", "house-admin"),
    "api_key": ("api_keys", "keyauthor", "keyadminannex"),
    "processing_record": ("processing_records", "wide-of-author", "house-of-removed", "annex-of-admin"),
    "user": ("users", "recluse"),
}
"""The table of each kind, and rows of it that change: none that ends the stream of a caller."""


def touch(world: World) -> None:
    for kind, (table, *ids) in TOUCHED.items():
        columns = {
            "user": "clerk_id = clerk_id || '-'",
            "invitation": "expire_time = expire_time + interval '1 second'",
            "processing_record": "status = 'cancelled'",
        }
        world.prepare(f"update {table} set {columns.get(kind, 'version = version + 1')} where id = any(array{ids})")


def is_own(caller: Caller, change: Change) -> bool:
    _, _, limit = KEYS.get(caller.key, ("", "", ""))
    stays = {ChangeKind.CHANGE_KIND_TEMPLATE, ChangeKind.CHANGE_KIND_PROCESSING_RECORD}
    if change.kind in stays and change.organization_id not in {"", *caller.organizations}:
        return False
    return bool(caller.user) and change.user_id == caller.user and limit in {"", change.organization_id}


def is_admin(caller: Caller, organization: str) -> bool:
    return organization in caller.organizations and MEMBERS[organization].get(caller.user) == "admin"


def sees(caller: Caller, change: Change) -> bool:
    """What docs/access.md says of reads."""
    if caller.name in SEES_ALL or is_own(caller, change):
        return True
    match ChangeKind.Name(change.kind)[12:].lower():
        case "template_type" | "template_tool" | "model":
            return True
        case "template":
            return not change.organization_id or change.organization_id in caller.organizations
        case "organization" | "member":
            return change.organization_id in caller.organizations
        case "invitation" | "processing_record":
            return is_admin(caller, change.organization_id)
    return False


def audits(caller: Caller, change: Change) -> bool:
    return caller.name in AUDITS_ALL or is_own(caller, change) or is_admin(caller, change.organization_id)


def told(world: World, caller: Caller) -> list[Change]:
    """Watch as the caller while rows of each kind change, and answer what is told."""
    watcher = Watcher(world.api(caller).channel, include_values=True, heartbeat=Duration(seconds=1))
    watcher.start()
    try:
        touch(world)
        # Everybody reads of types.
        world.prepare("update template_types set description = 'last' where id = 'type'")
        eventually(lambda: watcher.ends or len(of_types(watcher.changes)) == 2, within=20)
        return watcher.changes if watcher.ends else watcher.changes[:-1]
    finally:
        watcher.stop()


def of_types(changes: list[Change]) -> list[Change]:
    return [change for change in changes if change.kind == ChangeKind.CHANGE_KIND_TEMPLATE_TYPE]


def everything(world: World) -> list[Change]:
    """Answer what has changed, as who may do everything reads it."""
    request = ListChangesRequest(page_size=1000)
    return list(reversed(world.api(CALLERS["root"]).changes.ListChanges(request).changes))


@pytest.mark.parametrize("caller", CALLERS.values(), ids=lambda caller: caller.name)
def test_a_caller_is_told_what_it_may_read_and_nothing_else(world: World, caller: Caller) -> None:
    world.renew()
    found = told(world, caller)
    since = int(found[0].id)
    happened = [change for change in everything(world)[:-1] if int(change.id) >= since]
    assert [change.id for change in found] == [change.id for change in happened if sees(caller, change)]
    for change in found:
        assert bool(change.before and change.after) == audits(caller, change), change


@pytest.mark.parametrize("caller", CALLERS.values(), ids=lambda caller: caller.name)
def test_a_caller_lists_what_it_may_audit_and_nothing_else(world: World, caller: Caller) -> None:
    world.renew()
    touch(world)
    answer = world.api(caller).changes.ListChanges(ListChangesRequest(page_size=1000))
    assert answer.next_page_token == ""
    listed = [change.id for change in reversed(answer.changes)]
    assert listed == [change.id for change in everything(world) if audits(caller, change)]


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("member", "delete from organization_members where id = 'house-member'"),
        ("member", "update organization_members set role = 'viewer' where id = 'house-member'"),
        ("member", "delete from api_keys; delete from users where id = 'member'"),
        ("write key", "update api_keys set revoke_time = now() where id = 'keyadmin'"),
    ],
)
def test_a_stream_ends_when_the_rights_of_its_caller_change(world: World, name: str, sql: str) -> None:
    world.renew()
    caller = CALLERS[name]
    call = world.api(caller).changes.WatchChanges(WatchChangesRequest())
    assert next(call).resume_token
    world.prepare(sql)
    world.prepare("update templates set version = version + 1 where id = 'house-template'")
    told: list[Any] = []
    with pytest.raises(grpc.RpcError) as caught:
        told.extend(call)
    assert "house-template" not in str(told)
    failure = Failure(caught.value)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_ENDED")
