"""Lists that are far too long are refused by their length: looking at each item would hold all other callers up."""

from typing import Any

import pytest
from grpc import StatusCode

from omniflo.templates.v1.selection_service_pb2 import BatchResolveTemplatesRequest
from omniflo.templates.v1.template_service_pb2 import BatchGetTemplatesRequest, UpdateTemplateRequest
from omniflo.templates.v1.template_type_pb2 import FileSearchConfig, TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateToolRequest, CreateTemplateTypeRequest
from tests.conftest import Api, fails

MANY = 5_000
"""Far more than any list may have, and little enough for the size of a request."""


@pytest.mark.parametrize(
    ("call", "request_", "field", "limit"),
    [
        ("templates.BatchGetTemplates", BatchGetTemplatesRequest(ids=[""] * MANY), "ids", 100),
        (
            "selections.BatchResolveTemplates",
            BatchResolveTemplatesRequest(user_id="u", template_types=[""] * MANY),
            "template_types",
            100,
        ),
        (
            "types.CreateTemplateType",
            CreateTemplateTypeRequest(template_type=TemplateType(name="a", tools=[TemplateTool()] * MANY)),
            "template_type.tools",
            128,
        ),
        (
            "types.CreateTemplateTool",
            CreateTemplateToolRequest(
                template_tool=TemplateTool(file_search=FileSearchConfig(vector_store_ids=[""] * MANY))
            ),
            "template_tool.file_search.vector_store_ids",
            20,
        ),
    ],
)
def test_a_list_that_is_too_long_is_its_only_violation(
    api: Api, call: str, request_: Any, field: str, limit: int
) -> None:
    service, method = call.split(".")
    failure = fails(getattr(getattr(api, service), method), request_)
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert failure.violations == {field: f"must have at most {limit} items"}


def test_a_mask_has_at_most_100_paths(api: Api) -> None:
    template = api.template()
    request = UpdateTemplateRequest(template=template)
    request.update_mask.paths.extend(["title"] * 100)
    assert api.templates.UpdateTemplate(request) == template
    request.update_mask.paths.append("title")
    assert list(fails(api.templates.UpdateTemplate, request).violations) == ["update_mask.paths"]
