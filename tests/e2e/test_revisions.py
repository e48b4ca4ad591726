"""What a model was told can be told again: whatever was written, deleted and brought back, and after a restart."""

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    RenderTemplateRequest,
    RenderTemplateResponse,
    SetTemplateLabelRequest,
    UndeleteTemplateRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.template_type_pb2 import TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import (
    DeleteTemplateToolRequest,
    UpdateTemplateToolRequest,
    UpdateTemplateTypeRequest,
)
from tests.conftest import Api
from tests.contract import samples
from tests.e2e.clients import connected
from tests.e2e.serving import serving
from tests.scale import EDITED

pytestmark = pytest.mark.soak


class Edits:
    """Changes of a template and of what it refers to, at random."""

    def __init__(self, api: Api, template: Template, type_id: str) -> None:
        self._api = api
        self._random = random.Random(1)
        self._template = template
        self._type_id = type_id
        self._tools: list[str] = []
        self._newest = 1
        self._models = [api.model().openai_id for _ in range(3)]

    def edit(self, number: int) -> None:
        self._random.choice((self._text, self._settings, self._type, self._tool, self._less, self._label))(number)

    def _text(self, number: int) -> None:
        self._update(Template(title=f"Title {number}", instructions=f"Do it {number} times.\n🚀"))

    def _settings(self, number: int) -> None:
        self._update(Template(temperature=number % 20 / 10, model=self._random.choice(self._models)))

    def _update(self, body: Template) -> None:
        body.id = self._template.id
        self._newest = self._api.templates.UpdateTemplate(UpdateTemplateRequest(template=body)).revision

    def _type(self, number: int) -> None:
        body = TemplateType(id=self._type_id, description=f"Purpose {number}")
        self._api.types.UpdateTemplateType(UpdateTemplateTypeRequest(template_type=body))

    def _tool(self, number: int) -> None:
        if len(self._tools) < 5:
            kind = {"type": samples.FUNCTION, "schema": samples.SCHEMA} if number % 2 else {}
            self._tools.append(self._api.tool(template_type=self._template.template_type, **kind).id)
        body = TemplateTool(id=self._random.choice(self._tools), description=f"Does it {number} times.")
        self._api.types.UpdateTemplateTool(UpdateTemplateToolRequest(template_tool=body))

    def _less(self, number: int) -> None:
        if self._tools:
            id = self._tools.pop(number % len(self._tools))
            self._api.types.DeleteTemplateTool(DeleteTemplateToolRequest(id=id))

    def _label(self, number: int) -> None:
        label = ("production", "staging")[number % 2]
        revision = self._random.randint(1, self._newest)
        request = SetTemplateLabelRequest(template_id=self._template.id, label=label, revision=revision)
        self._api.templates.SetTemplateLabel(request)


def test_a_rendering_can_be_made_again(new_database: Callable[[], str], tmp_path: Path) -> None:
    url = new_database()
    told: list[RenderTemplateResponse] = []

    def assert_told_again(api: Api) -> None:
        for rendered in told:
            request = RenderTemplateRequest(
                id=rendered.template.id,
                revision=rendered.revision,
                template_type_revision=rendered.template_type_revision,
            )
            again = api.templates.RenderTemplate(request)
            assert again.responses_request == rendered.responses_request
            assert again.digest == rendered.digest == sha256(again.responses_request.encode()).hexdigest()

    with serving(url, tmp_path / "log") as service, connected(service.address) as api:
        owner = api.type()
        template = api.template(instructions="Look 🔍 for it.", template_type=owner.name, temperature=0.3)
        edits = Edits(api, template, owner.id)
        for number in range(EDITED):
            if number % (EDITED // 10) == 0:
                told.append(api.templates.RenderTemplate(RenderTemplateRequest(id=template.id)))
            edits.edit(number)
        assert len({rendered.digest for rendered in told}) == 10
        assert_told_again(api)
        api.templates.DeleteTemplate(DeleteTemplateRequest(id=template.id))
        api.templates.UndeleteTemplate(UndeleteTemplateRequest(id=template.id))
        assert_told_again(api)
    with serving(url, tmp_path / "again") as service, connected(service.address) as api:
        assert_told_again(api)
