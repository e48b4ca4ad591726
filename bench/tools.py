"""The tools of public MCP servers, as npm has them: stored byte for byte, and which of them are strict.

The servers are started without credentials and asked for their list alone; no tool is called.
"""

import json
import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import grpc
from grpc_status import rpc_status

from bench import machine, programs
from bench.compare import migrate, postgres, say
from bench.programs import ProgramError
from bench.report import rows
from bench.targets import node_version, serve
from omniflo.templates.v1.model_pb2 import Model
from omniflo.templates.v1.model_service_pb2 import CreateModelRequest
from omniflo.templates.v1.model_service_pb2_grpc import ModelServiceStub
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest, RenderTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub
from omniflo.templates.v1.template_type_pb2 import OpenAIToolType, TemplateTool, TemplateType
from omniflo.templates.v1.template_type_service_pb2 import CreateTemplateToolRequest, CreateTemplateTypeRequest
from omniflo.templates.v1.template_type_service_pb2_grpc import TemplateTypeServiceStub
from omniflo.templates.v1.user_service_pb2 import ProvisionUserRequest
from omniflo.templates.v1.user_service_pb2_grpc import UserServiceStub

LIST_SECONDS = 60.0
MODEL = "gpt-5.5"
MAX_DESCRIPTION = 1024
_SCHEMA = '"inputSchema":'

_FOUND = """{all} tools: {stored} are stored and rendered byte for byte, {refused} are rejected, and {strict} are sent
with `strict`. Of a tool that is not, the first reason counts. Descriptions that were cut to {most:,} characters: {cut}.
"""


class Server(NamedTuple):
    """An MCP server: a package of npm, and the program in it that speaks over stdio."""

    name: str
    package: str
    program: str
    arguments: tuple[str, ...] = ()


SERVERS = (
    Server("chrome", "chrome-devtools-mcp@1.11.0", "chrome-devtools-mcp", ("--no-usage-statistics",)),
    Server("everything", "@modelcontextprotocol/server-everything@2026.8.31", "mcp-server-everything"),
    Server("files", "@modelcontextprotocol/server-filesystem@2026.8.31", "mcp-server-filesystem", (".",)),
    Server("git", "@cyanheads/git-mcp-server@2.15.3", "git-mcp-server"),
    Server("github", "@modelcontextprotocol/server-github@2025.4.8", "mcp-server-github"),
    Server("kubernetes", "mcp-server-kubernetes@4.1.7", "mcp-server-kubernetes"),
    Server("memory", "@modelcontextprotocol/server-memory@2026.8.31", "mcp-server-memory"),
    Server("playwright", "@playwright/mcp@0.0.83", "playwright-mcp"),
    Server("thinking", "@modelcontextprotocol/server-sequential-thinking@2026.8.31", "mcp-server-sequential-thinking"),
)


class Listed(NamedTuple):
    """A tool as its server lists it."""

    name: str
    description: str
    schema: str
    """The bytes that the server wrote, as text."""


class Outcome(NamedTuple):
    server: str
    tool: str
    refused: str | None
    """Why the service does not store it."""
    not_strict: str | None
    """Why it is stored and not strict."""


class Result(NamedTuple):
    about: dict[str, str]
    outcomes: list[Outcome]
    cut: int
    """How many have a longer description than the service takes."""


def run() -> Result | None:
    """Store and render the tools of every server; None where there is no npm."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            say(f"skipped: there is no {program}")
            return None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="omniflo-bench-")))
        say("installs the servers")
        (folder / "package.json").write_text('{"private": true}')
        packages = [server.package for server in SERVERS]
        # Scripts of packages would download browsers.
        programs.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages], cwd=folder)
        tools = {server.name: tools_of(server, folder) for server in SERVERS}
        cores = machine.cores()
        _, admin = stack.enter_context(postgres(folder, cores))
        database = admin.new("tools")
        stack.callback(database.close)
        migrate(database)
        running = stack.enter_context(serve(database, {}, log=folder / "service.log", cores=cores.server))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{running.port}"))
        outcomes = list(_outcomes(channel, tools))
    about = {"node": node_version(), "model": MODEL} | {
        server.package: f"{len(tools[server.name])} tools" for server in SERVERS
    }
    cut = sum(len(tool.description) > MAX_DESCRIPTION for found in tools.values() for tool in found)
    return Result(about, outcomes, cut)


def write(result: Result | None, folder: Path) -> list[Path]:
    """Write what came of each tool into the folder, and answer the file."""
    if result is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "tools.md"
    table.write_text(_text(result))
    return [table]


def schemas_in(line: str) -> list[str]:
    """Return the texts of the schemas in a list of tools, as they stand there."""
    decoder, found, at = json.JSONDecoder(), list[str](), line.find(_SCHEMA)
    while at >= 0:
        start = at + len(_SCHEMA)
        start += len(line[start:]) - len(line[start:].lstrip())
        # What a schema itself has under that name is passed over.
        _, end = decoder.raw_decode(line, start)
        found.append(line[start:end])
        at = line.find(_SCHEMA, end)
    return found


def kind_of(reason: str) -> str:
    """Return what a reason is about, without the place and the names of properties."""
    _, _, what = reason.partition(" ")
    return "has an optional property" if what.startswith("must require ") else what.partition(", ")[0]


def tools_of(server: Server, folder: Path) -> list[Listed]:
    """Start a server, and return all its tools; ProgramError when it does not list them."""
    say(f"asks {server.package}")
    process = subprocess.Popen(
        [str(folder / "node_modules" / ".bin" / server.program), *server.arguments],
        cwd=folder,
        # Nothing of whoever runs this: a server needs to know nobody to list its tools.
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(LIST_SECONDS, process.kill)
    watchdog.start()
    try:
        return list(_listed(process))
    except (OSError, ValueError, KeyError) as error:
        raise ProgramError(f"{server.package} did not list its tools: {error!r}") from None
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def _listed(process: subprocess.Popen[str]) -> Iterator[Listed]:
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    _ask(process, 1, "initialize", client)
    _send(process, method="notifications/initialized")
    number, cursor = 2, dict[str, Any]()
    while True:
        line, result = _ask(process, number, "tools/list", cursor)
        tools, schemas = result["tools"], schemas_in(line)
        if [tool["inputSchema"] for tool in tools] != [json.loads(schema) for schema in schemas]:
            raise ValueError("its schemas are not where they are looked for")
        for tool, schema in zip(tools, schemas, strict=True):
            yield Listed(tool["name"], tool.get("description", ""), schema)
        if not result.get("nextCursor"):
            return
        number, cursor = number + 1, {"cursor": result["nextCursor"]}


def _ask(process: subprocess.Popen[str], id: int, method: str, params: dict[str, Any]) -> tuple[str, Any]:
    """Send a request, and return the line of its response, and the result in it."""
    _send(process, id=id, method=method, params=params)
    while line := process.stdout.readline() if process.stdout else "":
        message = json.loads(line)
        if message.get("id") == id:
            return line, message["result"]
    raise ValueError("it ended without a response")


def _send(process: subprocess.Popen[str], **message: object) -> None:
    if process.stdin is not None:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()


def _outcomes(channel: grpc.Channel, tools: dict[str, list[Listed]]) -> Iterator[Outcome]:
    """Give each server a template type, and render a template of it."""
    types, templates = TemplateTypeServiceStub(channel), TemplateServiceStub(channel)
    author = UserServiceStub(channel).ProvisionUser(ProvisionUserRequest(clerk_id="bench"))
    ModelServiceStub(channel).CreateModel(CreateModelRequest(model=Model(openai_id=MODEL, name=MODEL)))
    for server, listed in tools.items():
        types.CreateTemplateType(CreateTemplateTypeRequest(template_type=TemplateType(name=server)))
        stored: dict[str, Listed] = {}
        for tool in listed:
            try:
                stored[_store(types, server, tool)] = tool
            except grpc.RpcError as error:
                yield Outcome(server, tool.name, _why(error), None)
        body = Template(title=server, instructions="Do it.", user_id=author.id, template_type=server, model=MODEL)
        template = templates.CreateTemplate(CreateTemplateRequest(template=body))
        rendered = templates.RenderTemplate(RenderTemplateRequest(id=template.id))
        why = {adjustment.field: adjustment.reason for adjustment in rendered.adjustments}
        for function in json.loads(rendered.responses_request).get("tools", []):
            tool = stored.pop(function["name"])
            if f'"parameters": {tool.schema}, "strict"' not in rendered.responses_request:
                raise ProgramError(f"the schema of {server}'s {tool.name} is rendered with other bytes")
            reason = why.get(f"tools.{function['name']}.strict")
            if function["strict"] == (reason is not None):
                raise ProgramError(f"{server}'s {tool.name} is strict: {function['strict']}, because {reason}")
            yield Outcome(server, tool.name, None, reason)
        if stored:
            raise ProgramError(f"these tools of {server} are not rendered: {', '.join(stored)}")


def _store(types: TemplateTypeServiceStub, server: str, tool: Listed) -> str:
    """Store a tool, and return its name: several servers may call theirs the same."""
    body = TemplateTool(
        template_type=server,
        name=f"{server}_{tool.name}",
        type=OpenAIToolType.OPEN_AI_TOOL_TYPE_FUNCTION,
        description=tool.description[:MAX_DESCRIPTION],
        schema=tool.schema,
    )
    kept = types.CreateTemplateTool(CreateTemplateToolRequest(template_tool=body))
    if kept.schema != tool.schema:
        raise ProgramError(f"the schema of {server}'s {tool.name} is kept with other bytes")
    return kept.name


def _why(error: grpc.RpcError) -> str:
    """Return the rules that a tool broke."""
    status: Any = rpc_status.from_call(error)
    return "; ".join(str(detail) for detail in status.details) if status else str(error)


def _text(result: Result) -> str:
    outcomes = result.outcomes
    strict = [outcome for outcome in outcomes if outcome.refused is None and outcome.not_strict is None]
    refused = [outcome for outcome in outcomes if outcome.refused is not None]
    kinds = Counter(kind_of(outcome.not_strict) for outcome in outcomes if outcome.not_strict is not None)
    servers = Counter(outcome.server for outcome in outcomes)
    of_server = Counter(outcome.server for outcome in strict)
    parts = [
        "# Tools of public MCP servers\n",
        _FOUND.format(
            all=len(outcomes),
            stored=len(outcomes) - len(refused),
            refused=len(refused),
            strict=len(strict),
            cut=result.cut,
            most=MAX_DESCRIPTION,
        ),
        "".join(f"- {name}: {value}\n" for name, value in result.about.items()),
        rows(["why not strict", "tools"], [[kind, str(count)] for kind, count in kinds.most_common()]),
        rows(
            ["server", "tools", "strict"], [[name, str(count), str(of_server[name])] for name, count in servers.items()]
        ),
    ]
    if refused:
        parts.append(rows(["rejected", "why"], [[f"{of.server}: {of.tool}", str(of.refused)] for of in refused]))
    return "\n".join(parts)
