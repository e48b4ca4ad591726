"""What callers learn of users whom they may not read."""

import pytest

from omniflo.templates.v1.selection_service_pb2 import ResolveTemplateRequest
from omniflo.templates.v1.template_pb2 import TemplateView
from omniflo.templates.v1.template_service_pb2 import BatchGetTemplatesRequest, GetTemplateRequest
from omniflo.templates.v1.user_pb2 import User
from omniflo.templates.v1.user_service_pb2 import ProvisionUserRequest
from tests.conftest import READER, WRITER, Api, Callers

FULL = TemplateView.TEMPLATE_VIEW_FULL
AUTHOR = "user_author"


@pytest.fixture
def template_id(callers: Callers, api: Api) -> str:
    """A template that everybody reads, and that is the default of `kind`."""
    author = callers.service(WRITER).users.ProvisionUser(ProvisionUserRequest(clerk_id=AUTHOR))
    return api.template(user_id=author.id, is_default=True).id


def test_whoever_asked_before_everybody_sees_of_the_author_what_is_theirs_to_see(
    callers: Callers, api: Api, template_id: str
) -> None:
    kind = api.templates.GetTemplate(GetTemplateRequest(id=template_id)).template_type

    def seen(by: Api) -> list[User]:
        resolve = ResolveTemplateRequest(template_type=kind, view=FULL)
        batch = BatchGetTemplatesRequest(ids=[template_id], view=FULL)
        got = by.templates.GetTemplate(GetTemplateRequest(id=template_id, view=FULL)).author
        found = [got, by.templates.BatchGetTemplates(batch).templates[0].author]
        return [*found, by.selections.ResolveTemplate(resolve).template.author]

    strangers = [callers.user("user_stranger"), callers.service(WRITER, "clerk:user_other")]
    callers.service(WRITER).users.ProvisionUser(ProvisionUserRequest(clerk_id="user_other"))
    author = [callers.user(AUTHOR), callers.service(WRITER, f"clerk:{AUTHOR}")]
    # In turns, and each again from the cache.
    for _ in range(3):
        for by in strangers:
            for user in seen(by):
                assert user.id
                assert user == User(id=user.id)
        for by in author:
            assert {(user.clerk_id, user.HasField("create_time")) for user in seen(by)} == {(AUTHOR, True)}
        for service in (READER, WRITER):
            got = callers.service(service).templates.GetTemplate(GetTemplateRequest(id=template_id, view=FULL))
            assert got.author.clerk_id == AUTHOR
