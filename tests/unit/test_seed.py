"""What a new database starts with."""

from collections import Counter
from datetime import date
from typing import get_args

import protovalidate
import pytest
from google.protobuf.message import Message
from openai.types.shared.chat_model import ChatModel

from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType, TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateToolRequest, CreateTemplateTypeRequest
from service.operations import seed
from service.operations.json_schema import problem

WRITTEN = date(2026, 11, 23)
"""The day on which the seed was written."""

TOOLS = [(type_, tool) for type_, (_, tools) in seed.TYPES.items() for tool in tools]


@pytest.mark.parametrize("openai_id", seed.MODELS)
def test_a_model_is_one_that_the_sdk_knows(openai_id: str) -> None:
    assert openai_id in get_args(ChatModel)


@pytest.mark.parametrize("openai_id", seed.MODELS)
def test_no_model_was_shut_down_when_the_seed_was_written(openai_id: str) -> None:
    _, _, shutdown_date = seed.MODELS[openai_id]
    assert shutdown_date is None or shutdown_date > WRITTEN


def test_tools_are_unique_by_name_and_type_across_types() -> None:
    pairs = Counter((tool["name"], tool["type"]) for _, tool in TOOLS)
    assert [pair for pair, count in pairs.items() if count > 1] == []


@pytest.mark.parametrize("tool", [tool for _, tool in TOOLS], ids=lambda tool: tool["name"])
def test_functions_alone_have_a_schema_and_it_is_valid(tool: dict[str, str]) -> None:
    assert (tool["type"] == "function") == ("schema" in tool)
    assert problem(tool.get("schema", '{"type": "object", "properties": {}}')) is None


def requests() -> list[Message]:
    """Answer the requests with which a caller would create the same."""
    models = [
        CreateModelRequest(model=Model(openai_id=openai_id, name=name, description=description))
        for openai_id, (name, description, _) in seed.MODELS.items()
    ]
    types = [
        CreateTemplateTypeRequest(template_type=TemplateType(name=name, description=description))
        for name, (description, _) in seed.TYPES.items()
    ]
    tools = [
        CreateTemplateToolRequest(
            template_tool=TemplateTool(
                template_type=type_,
                **{**tool, "type": OpenAIToolType.Value(f"OPEN_AI_TOOL_TYPE_{tool['type'].upper()}")},
            )
        )
        for type_, tool in TOOLS
    ]
    return [*models, *types, *tools]


@pytest.mark.parametrize("request_", requests(), ids=lambda request: type(request).__name__)
def test_the_seed_keeps_the_rules_of_the_protos(request_: Message) -> None:
    protovalidate.validate(request_)
