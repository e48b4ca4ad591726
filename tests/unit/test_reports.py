"""What users of comparable systems reported of OpenAI's answers, and what becomes of it here.

A source is an issue or a pull request of a public repository, a repository that records what the API answered, or a
thread of OpenAI's forum. Nobody asked OpenAI again.
"""

import json
from typing import Any, NamedTuple

import pytest

from service.operations.json_schema import problem
from service.rendering.strict import why_not_strict
from tests.unit.test_families import EFFORTS, rendered
from tests.unit.test_strict import DRAFT_7, MODEL, STRING, TUNED, closed, nested, of

# The efforts that a model takes, and those that it refuses: `*` is all others, `-` is none of which it was said.
EFFORT_REPORTS = """
gpt-5-2025-08-07             minimal,low,medium,high     *                    community.openai.com/t/1371738
gpt-5-chat-latest            -                           *                    Laisky/one-api#120
gpt-5-search-api-2025-10-14  -                           *                    community.openai.com/t/1371738
gpt-5-codex                  low,medium,high             *                    community.openai.com/t/1371738
gpt-5.1-codex                low,medium,high             *                    openai/codex#6647
gpt-5-pro-2025-10-06         high                        *                    community.openai.com/t/1371738
gpt-5.1-2025-11-13           none,low,medium,high        *                    anomalyco/opencode#4451
gpt-5.1-chat-latest          medium                      *                    Laisky/one-api#266
gpt-5.2-2025-12-11           none,low,medium,high,xhigh  *                    community.openai.com/t/1371738
gpt-5.2-pro-2025-12-11       medium,high,xhigh           *                    community.openai.com/t/1371738
o1-2024-12-17                low,medium,high             *                    community.openai.com/t/1371738
o3-mini-2025-01-31           low,medium,high             *                    community.openai.com/t/1371738
gpt-3.5-turbo                -                           *                    BerriAI/litellm#11819
gpt-4-turbo                  -                           *                    BerriAI/litellm#11819
gpt-4-0613                   -                           *                    BerriAI/litellm#11819
gpt-4.5-preview              -                           *                    BerriAI/litellm#11819
chatgpt-4o-latest            -                           *                    BerriAI/litellm#11819
ft:gpt-3.5-turbo-0125:o::1   -                           *                    BerriAI/litellm#11819
o1-mini                      -                           *                    onyx-dot-app/onyx#13334
o1-preview                   -                           *                    onyx-dot-app/onyx#13334
gpt-5.4-mini                 none,low,medium,high,xhigh  minimal              anomalyco/models.dev#2351

gpt-5-mini                   minimal,low,medium,high     xhigh                microsoft/vscode#301045
gpt-5-pro                    high                        *                    anomalyco/models.dev#2351
gpt-5.1                      none,low,medium,high        xhigh                CortexReach/memory-lancedb-pro#201
gpt-5.1                      none,low,medium,high        -                    livekit/agents#3966
gpt-5.1-codex-max            xhigh                       -                    vercel/ai#11056
gpt-5.2-chat-latest          medium                      high                 egoist/chatwise-releases#1257
gpt-5.2-chat-2025-12-11      medium                      high                 Laisky/one-api#285
gpt-5.2-codex                low,medium,high,xhigh       none,minimal         enricoros/big-AGI#944
gpt-5.4-nano                 none,low,medium,high,xhigh  minimal              anomalyco/models.dev#2351
gpt-5.4-pro                  medium,high,xhigh           *                    anomalyco/models.dev#2351
gpt-5.5-pro                  medium,high,xhigh           *                    anomalyco/models.dev#2296
gpt-5.6-sol                  none,low,medium,high,xhigh  minimal              mnfst/modelparams.dev#236
gpt-5.6-terra                max                         -                    enricoros/big-AGI#1159
gpt-6-astra                  low,medium,high,xhigh,max   none,minimal         BerriAI/litellm-docs#1173
gpt-4o                       -                           *                    BerriAI/litellm#38842
gpt-4o                       -                           none                 AAswordman/Operit#1048
gpt-4o-mini                  -                           *                    davidmigloz/langchain_dart#712
gpt-4.1                      -                           *                    BoundaryML/baml#2708
gpt-4.1-nano                 -                           medium               mozilla-ai/any-llm#270
o1-pro-2025-03-19            low,medium,high             none,minimal,xhigh   enricoros/big-AGI#944
o3-pro                       low,medium,high             none,minimal,xhigh   enricoros/big-AGI#944
codex-mini-latest            low,medium,high             none,minimal,xhigh   enricoros/big-AGI#944
o3-deep-research             medium                      none,low,high        anomalyco/opencode#26273
o4-mini-deep-research        medium                      none,low,high        anomalyco/opencode#26273
"""

# A temperature beside an effort, or beside none.
TEMPERATURE_REPORTS = """
gpt-5-pro                             -     0.5   refused  pydantic/pydantic-ai
gpt-5-codex                           -     0.5   refused  1e0n/droid2api#1
gpt-5-search-api                      -     0.5   refused  enricoros/big-AGI
gpt-4o-search-preview                 -     0     refused  vercel/ai#5609
gpt-4o-mini-search-preview            -     0.7   refused  crmne/ruby_llm#155
gpt-5.1-codex                         none  0.5   refused  epam/ai-dial-chat#8538
gpt-5.1-chat-latest                   none  0.5   refused  pydantic/pydantic-ai
gpt-5.2-codex                         low   0.5   refused  OpenHands/software-agent-sdk#1837
gpt-5.1                               -     0.7   taken    HKUDS/nanobot#370
gpt-5.2                               -     0.7   taken    UKGovernmentBEIS/inspect_ai#5242
gpt-5.4                               -     0.7   taken    UKGovernmentBEIS/inspect_ai#5242
gpt-5.5                               -     0.7   refused  UKGovernmentBEIS/inspect_ai#5242
openai/gpt-5-mini                     -     0.7   refused  Kilo-Org/kilocode#2174
azure/gpt-5                           -     0.7   refused  Kilo-Org/kilocode#2174

gpt-5                                 -     0.01  refused  owndev/Open-WebUI-Functions#98
gpt-5                                 -     1     taken    BerriAI/litellm#34599
gpt-5-mini                            -     0     refused  QwenLM/qwen-code#921
gpt-5-nano                            -     0.6   refused  groq/openbench#50
gpt-5-codex                           -     0.3   refused  hotovo/aider-desk#452
gpt-5-chat-latest                     -     0.7   taken    langchain-ai/langchain#32624
gpt-5.2-codex                         -     0.7   refused  gethnet/litellm-connector-copilot#15
codex-mini-latest                     -     0     refused  OpenHands/OpenHands#11498
gpt-5.1                               none  0.7   taken    UKGovernmentBEIS/inspect_ai#5242
gpt-5.4-mini                          -     0.7   taken    UKGovernmentBEIS/inspect_ai#5242
gpt-5.4                               high  0.3   refused  itayinbarr/little-coder#33
gpt-5.5                               none  0.7   taken    UKGovernmentBEIS/inspect_ai#5242
gpt-5.6-luna                          -     0.7   refused  can1357/oh-my-pi#5606
gpt-5.6-luna                          none  0.7   taken    UKGovernmentBEIS/inspect_ai#5242
gpt-6-astra                           low   0.7   refused  bolna-ai/bolna#1019
o1-mini                               -     0     refused  OpenHands/OpenHands#4131
o3-mini                               -     0.7   refused  openai/openai-python#2072
o4-mini-2025-04-16                    -     0.1   refused  ServiceNow/AgentLab#251
gpt-4o-mini-search-preview-2025-03-11 -     0.7   refused  raycast/extensions#18038
"""


class SchemaReport(NamedTuple):
    source: str
    schema: Any
    outcome: str
    """`strict`, `not strict`, or `refused` whatever strict is."""
    model: str = MODEL


ARRAY = {"type": "array"}
SCHEMA_REPORTS = [
    SchemaReport("openai/openai-node", of(STRING, **{"$schema": DRAFT_7}), "strict"),
    SchemaReport("pydantic/pydantic-ai#4490", of(STRING | {"minLength": 1, "maxLength": 9}), "strict"),
    SchemaReport("pydantic/pydantic-ai#7400", of(STRING | {"default": "a"}), "strict"),
    SchemaReport("cyanheads/git-mcp-server#47", of(STRING | {"format": "uri"}), "not strict"),
    SchemaReport(
        "camel-ai/camel#3001",
        of({"$ref": "#/$defs/b", "description": "It."}, **{"$defs": {"b": STRING}}),
        "not strict",
    ),
    SchemaReport(
        "langchain-ai/langchainjs#11382",
        closed({"a": STRING, "b": {"$ref": "#/properties/a", "description": "It."}}),
        "not strict",
    ),
    SchemaReport("openai/openai-agents-python#4114", of({"properties": {"b": STRING}}), "not strict"),
    SchemaReport("openai/openai-agents-python#4114", of({"description": "Anything."}), "not strict"),
    SchemaReport("openai/openai-agents-python#4114", of({"const": "a"}), "not strict"),
    SchemaReport("can1357/oh-my-pi#1835", of(STRING | {"enum": ["a", None]}), "not strict"),
    SchemaReport("vercel/ai#21037", of(STRING | {"pattern": "^(?!a)b"}), "not strict"),
    SchemaReport("Dokploy/mcp#45", of(STRING | {"pattern": "(?<=a)b"}), "not strict"),
    SchemaReport("openai/openai-java#732", nested(8), "strict"),
    SchemaReport("openai/openai-java#732", nested(10), "strict"),
    SchemaReport("OpenAI, Structured Outputs", of(STRING | {"pattern": "^a"}), "not strict", TUNED),
    SchemaReport("OpenAI, Structured Outputs", of({"enum": [f"{n}" for n in range(1001)]}), "not strict"),
    SchemaReport("mark3labs/mcphost#35", of(ARRAY | {"description": "Words."}), "refused"),
    SchemaReport("langchain-ai/langchainjs#9804", of(STRING, anyOf=[{}]), "refused"),
    SchemaReport("open-webui/computer#87", of({"$ref": "#/$defs/none"}), "refused"),
    SchemaReport("anomalyco/opencode#17758", of(STRING | {"description": "\ud83d"}), "refused"),
    # Found later.
    SchemaReport("can1357/oh-my-pi#211", of(ARRAY | {"items": {}}), "not strict"),
    SchemaReport("apexive/odoo-llm#212", of({"title": "Method Name Filter", "default": None}), "not strict"),
    SchemaReport(
        "can1357/oh-my-pi#209", of({"type": "object", "propertyNames": STRING, "properties": {}}), "not strict"
    ),
    SchemaReport(
        "TanStack/ai#976", of({"type": "object", "additionalProperties": {}, "propertyNames": STRING}), "not strict"
    ),
    SchemaReport("anomalyco/opencode#13737", closed({"a": STRING, "multiple": STRING}, required=["a"]), "not strict"),
    SchemaReport("openai/openai-node#2602", of({"oneOf": [STRING, {"type": "number"}]}), "not strict"),
    SchemaReport(
        "pydantic/pydantic-ai#7333", of(ARRAY | {"prefixItems": [STRING], "minItems": 1, "maxItems": 1}), "not strict"
    ),
    SchemaReport(
        "docker/docker-agent#2168",
        of({"type": ["object", "null"], "properties": {"b": STRING}, "required": ["b"]}),
        "not strict",
    ),
    SchemaReport("lastmile-ai/openai-agents-mcp#2", of({"type": "object", "properties": {}}), "not strict"),
    SchemaReport("bytedance/trae-agent#173", of({"type": "object", "description": "The value."}), "not strict"),
    SchemaReport("microsoft/semantic-kernel#9786", of(ARRAY | {"items": STRING, "uniqueItems": True}), "not strict"),
    SchemaReport("github/github-mcp-server#376", {"type": "object", "properties": {"a": STRING}}, "not strict"),
    SchemaReport("langchain-ai/langchain-mcp-adapters#137", {"type": "object"}, "refused"),
    SchemaReport("osaurus-ai/osaurus#2847", {"type": "object", "additionalProperties": False}, "refused"),
    SchemaReport("xemantic/xemantic-ai-tool-schema#37", {"type": "object", "title": "tool_name"}, "refused"),
    SchemaReport(
        "campfirein/byterover-cli#42", of({"type": ["string", "array"], "description": "The interaction."}), "refused"
    ),
    SchemaReport("gumloop/guMCP#136", of(ARRAY | {"items": ARRAY}), "refused"),
    SchemaReport("apify/apify-mcp-server#36", of(ARRAY | {"default": ["markdown"]}), "refused"),
    SchemaReport("chatanywhere/GPT_API_free#403", {"oneOf": [closed({})]}, "refused"),
    SchemaReport("cecli-dev/cecli#281", closed({}, oneOf=[{"required": ["a"]}]), "refused"),
    SchemaReport("vercel/ai#7005", {"properties": {"name": STRING}}, "refused"),
    SchemaReport("CherryHQ/cherry-studio#4188", of(ARRAY | {"items": STRING, "required": True}), "refused"),
    SchemaReport(
        "smallmain/vscode-unify-chat-provider#162",
        {"type": "object", "properties": {"a": STRING, "type": "object"}},
        "refused",
    ),
    SchemaReport("maltekuhr/laravel-gpt#8", {"type": "object", "properties": []}, "refused"),
]


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines() if line]


def efforts(text: str, *but: str) -> set[str]:
    return set(EFFORTS).difference(but) if text == "*" else set(text.split(",")) - {"-"}


@pytest.mark.parametrize(("model", "taken", "refused", "source"), rows(EFFORT_REPORTS))
def test_an_effort_is_sent_as_was_reported(model: str, taken: str, refused: str, source: str) -> None:
    for effort in efforts(taken):
        assert rendered(model, reasoning_effort=effort)[0]["reasoning"] == {"effort": effort}, source
    for effort in efforts(refused, *efforts(taken)):
        body, left_out = rendered(model, reasoning_effort=effort)
        assert "reasoning" not in body, source
        assert left_out.keys() == {"reasoning_effort"}, source


@pytest.mark.parametrize(("model", "effort", "temperature", "outcome", "source"), rows(TEMPERATURE_REPORTS))
def test_a_temperature_is_sent_as_was_reported(
    model: str, effort: str, temperature: str, outcome: str, source: str
) -> None:
    given = None if effort == "-" else effort
    body, left_out = rendered(model, reasoning_effort=given, temperature=float(temperature))
    assert ("temperature" in body) == (outcome == "taken"), source
    assert ("temperature" in left_out) == (outcome == "refused"), source


@pytest.mark.parametrize("report", SCHEMA_REPORTS, ids=lambda report: report.source)
def test_a_schema_is_what_was_reported(report: SchemaReport) -> None:
    if report.outcome == "refused":
        assert problem(json.dumps(report.schema)) is not None
    else:
        assert problem(json.dumps(report.schema)) is None
        assert (why_not_strict(report.schema, report.model) is None) == (report.outcome == "strict")
