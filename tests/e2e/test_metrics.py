"""The metrics of a running service: what the page says they are, of all processes together, and nobody's downfall."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import psycopg2
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, whatever its library calls it

from omniflo.templates.v1.model_service_pb2 import ListAvailableModelsRequest
from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import (
    GetTemplateRequest,
    ListTemplatesRequest,
    UpdateTemplateRequest,
)
from omniflo.templates.v1.user_service_pb2 import GetUserRequest, ProvisionUserRequest
from service.database import migrate
from service.server.endpoint import MAX_CONNECTIONS
from tests import scale
from tests.conftest import ROOT, Api, Database, fails
from tests.contract.methods import METHODS, UPLOADS
from tests.e2e.clients import connected
from tests.e2e.serving import Service, eventually, logged, serving
from tests.e2e.test_process import children, descendants, is_alive, run, said
from tests.openai_stand_in import KEY, Fault, StandIn, listed

pytestmark = pytest.mark.waiting

SECONDS = 20.0
PREFIX = "omniflo.templates.v1"
OURS = "/omniflo.templates.v1.TemplateService/GetTemplate"
PATHS = {method.path for method in [*METHODS, *UPLOADS]}


class Measured:
    """A service that is running, and its metrics."""

    def __init__(self, service: Service, log: Path, url: str) -> None:
        self.service = service
        self.url = url
        (self.address,) = (line["address"] for line in logged(log) if line["event"] == "metrics")

    def text(self) -> str:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=SECONDS) as answer:
            assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
            return str(answer.read().decode())

    def families(self) -> dict[str, Metric]:
        return {family.name: family for family in text_string_to_metric_families(self.text())}

    def value(self, sample: str, **labels: str) -> float:
        """Return the sum of the samples with these labels among theirs."""
        return sum(
            found.value
            for family in self.families().values()
            for found in family.samples
            if found.name == sample and labels.items() <= found.labels.items()
        )

    def handled(self, method: str = "GetTemplate", code: str = "OK") -> float:
        return self.value("grpc_server_handled_total", grpc_method=method, grpc_code=code)

    def settled(self) -> None:
        """Wait until all calls that have ended are logged and counted: workers count four times a second."""
        # The line of a call may be written after its caller has the answer.
        time.sleep(0.25)
        eventually(self._is_settled, within=SECONDS)

    def _is_settled(self) -> bool:
        ended = Tally((line["method"], line["code"]) for line in self.service.calls() if line["method"] in PATHS)
        counted = {
            (
                f"/{sample.labels['grpc_service']}/{sample.labels['grpc_method']}",
                sample.labels["grpc_code"],
            ): sample.value
            for sample in self.families()["grpc_server_handled"].samples
        }
        return ended == counted and self.value("grpc_server_in_flight") == 0

    def children(self) -> dict[str, list[int]]:
        """Return the processes of each kind."""
        return {kind: sorted(children(self.service.pid, kind)) for kind in ("worker", "jobs", "metrics")}

    @contextmanager
    def api(self) -> Iterator[Api]:
        # Channels share connections unless they are told not to, and connections land on one worker each.
        with grpc.insecure_channel(self.service.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            yield Api(channel)


@pytest.fixture(scope="module")
def measured(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """A service of two workers with all that has metrics."""
    url, folder, openai = new_database(), tmp_path_factory.mktemp("metrics"), StandIn()
    log = folder / "log"
    # Such a server has metrics of assistants as well, and templates are as they are written.
    openai.faults.all, openai.faults.only = Fault.GONE, ""
    settings = {"metrics_listen": "127.0.0.1:0", "work": "on", "backup_dir": folder / "backups", "assistants": "on"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_API_KEY", KEY)
        environment.setenv("OPENAI_BASE_URL", openai.url)
        with serving(url, log, workers=2, **settings) as service:
            yield Measured(service, log, url)
    openai.close()


@pytest.fixture
def template(measured: Measured) -> Template:
    with measured.api() as api:
        template = api.template()
    measured.settled()
    return template


def test_the_page_lists_what_a_running_service_exports(measured: Measured, template: Template) -> None:
    with measured.api() as api:
        api.templates.GetTemplate(GetTemplateRequest(id=template.id))
    lines = (ROOT / "docs" / "metrics.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    page = {name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}
    assert len(page) == len(rows) > 10

    def exported() -> dict[str, tuple[str, set[str]]]:
        return {
            name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
            for name, family in measured.families().items()
        }

    # Some are counted now and then.
    give_up = time.monotonic() + SECONDS
    while exported() != page and time.monotonic() < give_up:
        time.sleep(0.1)
    assert exported() == page


OF_PROMETHEUS = {"up": {"job"}}
"""What it measures itself."""
SELECTOR = re.compile(r"\b([a-z]\w*)\{([^}]*)\}|\b((?:omniflo|grpc_server)_\w+)")


def expressions() -> list[str]:
    """Return every expression of the alerts and the dashboards."""
    alerts = (ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    found = [
        " ".join(text.split()) for text in re.findall(r"expr: (?:>-\n)?(.*?)\n\s+(?:for|labels):", alerts, re.DOTALL)
    ]
    for path in (ROOT / "deploy" / "grafana").glob("*.json"):
        found += [target["expr"] for panel in json.loads(path.read_text())["panels"] for target in panel["targets"]]
    return found


def test_dashboards_and_alerts_use_what_a_running_service_exports(measured: Measured, template: Template) -> None:
    with measured.api() as api:
        api.templates.GetTemplate(GetTemplateRequest(id=template.id))
    measured.settled()
    exported: dict[str, set[str]] = dict(OF_PROMETHEUS)
    for family in measured.families().values():
        for sample in family.samples:
            exported.setdefault(sample.name, {"instance"}).update(sample.labels)
    found = expressions()
    assert len(found) > 40
    for expression in found:
        in_groups = {name for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in group.split(", ")}
        known = {"instance"}
        for name, labels, bare in SELECTOR.findall(expression):
            assert (name or bare) in exported, expression
            known |= exported[name or bare]
            assert set(re.findall(r"(\w+)(?:=|!)", labels)) <= exported[name or bare], expression
        assert in_groups <= known, expression
    text = " ".join(found)
    assert [
        name
        for name, family in measured.families().items()
        if not any(re.search(rf"\b{sample.name}\b", text) for sample in family.samples)
    ] == [], "what nobody is shown"


def test_calls_to_all_workers_are_counted_together(measured: Measured, template: Template) -> None:
    before = measured.handled(), measured.handled("GetUser", "NOT_FOUND")
    seconds = measured.value("grpc_server_handling_seconds_count", grpc_method="GetTemplate")
    for _ in range(16):
        with measured.api() as api:
            api.templates.GetTemplate(GetTemplateRequest(id=template.id))
            fails(api.users.GetUser, GetUserRequest(id="nobody"))
    measured.settled()
    # Each connection is one worker's: that all 16 land on one has a chance of 1 in 32,768.
    peers = {line["peer"] for line in measured.service.calls() if line["method"] == OURS}
    assert len(peers) >= 16
    assert measured.handled() == before[0] + 16
    assert measured.handled("GetUser", "NOT_FOUND") == before[1] + 16
    assert measured.value("grpc_server_handling_seconds_count", grpc_method="GetTemplate") == seconds + 16
    assert measured.value("grpc_server_started_total") == measured.value("grpc_server_handled_total")
    assert measured.value("grpc_server_in_flight") == 0


@pytest.mark.soak
def test_odd_calls_add_no_labels(measured: Measured, template: Template) -> None:
    """Whatever callers choose: methods, ids, request ids, users, keys, traces, texts."""

    def series() -> set[tuple[str, ...]]:
        return {
            (sample.name, *map("=".join, sorted(sample.labels.items())))
            for family in measured.families().values()
            for sample in family.samples
        }

    def call(api: Api, number: int) -> None:
        metadata = [
            ("traceparent", f"00-{number + 1:032x}-{number + 1:016x}-01"),
            ("authorization", f"Bearer omf_{number}"),
            (f"x-{number}", str(number)),
        ]
        calls: list[tuple[Any, Any]] = [
            (api.templates.GetTemplate, GetTemplateRequest(id=f"odd{number}")),
            (api.users.ProvisionUser, ProvisionUserRequest(clerk_id="user_odd", request_id=f"odd-{number}")),
            (
                api.templates.UpdateTemplate,
                UpdateTemplateRequest(template=Template(id=template.id, title=f"{number}")),
            ),
            (api.templates.ListTemplates, ListTemplatesRequest(query=f"odd{number}", page_token=f"{number}")),
            (api.channel.unary_unary(f"/odd.Service{number}/Method", bytes), b""),
            (api.users.GetUser, GetUserRequest(id=f"\n{number}")),
        ]
        for method, request in calls:
            with suppress(grpc.RpcError):
                method(request, metadata=metadata, timeout=SECONDS)

    def calls(numbers: range) -> None:
        # Both workers, since each has its own.
        for first in range(numbers.start, numbers.stop, 100):
            with measured.api() as api:
                for number in range(first, min(first + 100, numbers.stop)):
                    call(api, number)

    for number in range(16):
        calls(range(number, number + 1))
    measured.settled()
    before = series()
    calls(range(16, 16 + scale.ODD_CALLS // 6))
    measured.settled()
    assert series() == before


def test_what_the_database_did_is_counted(measured: Measured) -> None:
    again = ProvisionUserRequest(clerk_id="user_again", request_id="again")
    replays = measured.value("omniflo_idempotent_replays_total")
    with measured.api() as api:
        ids = {api.users.ProvisionUser(again).id for _ in range(3)}
    assert len(ids) == 1
    eventually(lambda: measured.value("omniflo_idempotent_replays_total") == replays + 2, within=SECONDS)
    name = {"statement": "users.provision"}
    eventually(lambda: measured.value("omniflo_statements_total", **name) > 0, within=SECONDS)
    assert measured.value("omniflo_statement_seconds_total", **name) > 0
    assert measured.value("omniflo_statements_total", statement="commit") > 0


@pytest.mark.usefixtures("template")
def test_no_label_is_chosen_by_callers(measured: Measured) -> None:
    def methods() -> set[str]:
        return {sample.labels["grpc_method"] for sample in measured.families()["grpc_server_started"].samples}

    before = methods()
    with measured.api() as api:
        for path in ("/made.up.Service/Method", f"/{PREFIX}.TemplateService/MadeUp", "/madeup"):
            unimplemented: Any = api.channel.unary_unary(path)
            with pytest.raises(grpc.RpcError) as caught:
                unimplemented(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not re.search("made.?up", measured.text(), re.IGNORECASE)
    assert methods() == before


def test_a_call_that_runs_is_in_flight(measured: Measured, template: Template) -> None:
    holder: Connection = psycopg2.connect(measured.url)
    with holder.cursor() as cursor, measured.api() as api:
        cursor.execute("select 1 from templates where id = %s for update", (template.id,))
        update = UpdateTemplateRequest(template=Template(id=template.id, title="Changed"))
        call = api.templates.UpdateTemplate.future(update, timeout=SECONDS)
        eventually(lambda: measured.value("grpc_server_in_flight") == 1, within=SECONDS)
        holder.rollback()
        call.result()
    holder.close()
    eventually(lambda: measured.value("grpc_server_in_flight") == 0, within=SECONDS)


def test_the_cache_tells_what_it_did(measured: Measured, template: Template) -> None:
    def requests() -> dict[str, float]:
        samples = measured.families()["omniflo_cache_requests"].samples
        return {sample.labels["result"]: sample.value for sample in samples}

    before = requests()
    with measured.api() as api:
        for metadata in [(), (), (), (("x-omniflo-consistency", "strong"),)]:
            api.templates.GetTemplate(GetTemplateRequest(id=template.id), metadata=metadata)
    wanted = {"hit": before["hit"] + 2, "miss": before["miss"] + 1, "passed_by": before["passed_by"] + 1}
    eventually(lambda: requests() == wanted, within=SECONDS)
    assert measured.value("omniflo_cache_entries") >= 1
    assert measured.value("omniflo_cache_bytes") > 500
    assert measured.value("omniflo_cache_evictions_total") == 0


def test_what_workers_read_of_changes_is_counted(measured: Measured, template: Template) -> None:
    def wake_ups(by: str) -> float:
        return measured.value("omniflo_feed_wake_ups_total", by=by)

    before = measured.value("omniflo_feed_changes_total"), wake_ups("commit"), wake_ups("notification")
    with measured.api() as api:
        body = Template(id=template.id, title="Changed")
        api.templates.UpdateTemplate(UpdateTemplateRequest(template=body))
    # Both workers read it: the one that has committed, and the other one, which it tells.
    eventually(lambda: measured.value("omniflo_feed_changes_total") == before[0] + 2, within=SECONDS)
    eventually(lambda: (wake_ups("commit"), wake_ups("notification")) == (before[1] + 1, before[2] + 1), within=SECONDS)
    assert 0 <= measured.value("omniflo_feed_age_seconds") < SECONDS


def test_connections_and_the_schema_are_as_the_database_sees_them(measured: Measured, template: Template) -> None:
    with measured.api() as api:
        api.templates.GetTemplate(GetTemplateRequest(id=template.id))
    database = Database(measured.url)
    count = "select count(*) from pg_stat_activity where datname = current_database() and application_name = %s"

    def is_right() -> bool:
        ((there,),) = database.query(count, ("omniflo-templates",))
        return bool(there >= 6 and measured.value("omniflo_database_connections") == there)

    eventually(is_right, within=SECONDS)
    assert measured.value("omniflo_schema_version") == len(migrate.load())
    database.close()


def test_a_replica_whose_database_lacks_a_right_is_not_ready(new_database: Callable[[], str], tmp_path: Path) -> None:
    url, log = new_database(), tmp_path / "log"
    with serving(url, log, workers=2, metrics_listen="127.0.0.1:0") as service, closing(Database(url)) as database:
        measured = Measured(service, log, url)
        eventually(lambda: measured.value("omniflo_ready") == 1, within=SECONDS)
        database.query("alter table user_template_selections rename to away")
        eventually(lambda: measured.value("omniflo_ready") == 0, within=SECONDS)
        database.query("alter table away rename to user_template_selections")
        eventually(lambda: measured.value("omniflo_ready") == 1, within=SECONDS)


def test_odd_models_of_openai_are_counted(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, log = new_database(), tmp_path / "log"
    openai = StandIn()
    monkeypatch.setenv("OPENAI_BASE_URL", openai.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    openai.odd = [listed("a b"), listed("c d")]
    openai.models["o3"] = "12/11/2026"
    with serving(url, log, metrics_listen="127.0.0.1:0") as service, connected(service.address) as api:
        measured = Measured(service, log, url)

        def counted(outcome: str) -> float:
            return measured.value("omniflo_openai_requests_total", outcome=outcome)

        def odd(field: str) -> float:
            return measured.value("omniflo_openai_odd_models_total", field=field)

        def is_listed() -> bool:
            # A slow machine may need longer than a connection to the database has.
            with suppress(grpc.RpcError):
                return bool(api.models.ListAvailableModels(ListAvailableModelsRequest()).available_models)
            return False

        for _ in range(2):
            eventually(is_listed, within=SECONDS)
        answered = openai.calls["/v1/models"]
        eventually(lambda: odd("id") == 2 * answered, within=SECONDS)
        assert odd("shutdown_date") == counted("ok") == answered
        faults = {
            "refused": Fault.UNAUTHORIZED,
            "rate_limited": Fault.RATE_LIMITED,
            "failed": Fault.SERVER_ERROR,
            "unreachable": Fault.LOST,
        }
        for outcome, fault in faults.items():
            before = openai.calls["/v1/models"], counted(outcome)
            with openai.failing(fault):
                fails(api.models.ListAvailableModels, ListAvailableModelsRequest())
            assert counted(outcome) - before[1] == openai.calls["/v1/models"] - before[0] > 0, outcome
        assert len(service.events("odd models of OpenAI")) == answered
    openai.close()


def test_only_metrics_are_served_there(measured: Measured) -> None:
    for path, data, code in [("/", None, 404), ("/metrics", b"x", 501)]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{measured.address}{path}", data=data, timeout=SECONDS)
        caught.value.close()
        assert caught.value.code == code


def test_the_parent_does_without_what_only_its_children_need() -> None:
    imports = "import sys, service.__main__, service.metrics, service.server.endpoint; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", imports], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"grpc", "openai", "procrastinate", "psycopg"} & set(done.stdout.split())


def test_clients_that_say_nothing_harm_nobody_and_are_sent_away(measured: Measured, template: Template) -> None:
    host, _, port = measured.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection((host, int(port))))
        with measured.api() as api:
            api.templates.GetTemplate(GetTemplateRequest(id=template.id), timeout=5)

        def is_answered() -> bool:
            try:
                return "# EOF" in measured.text()
            except OSError:
                return False

        eventually(is_answered, within=SECONDS)


@pytest.fixture
def connect(measured: Measured) -> Iterator[Callable[[], socket.socket]]:
    """Opens a connection with a request that does not end."""
    host, _, port = measured.address.rpartition(":")
    with ExitStack() as stack:

        def connect() -> socket.socket:
            connection = stack.enter_context(socket.create_connection((host, int(port)), SECONDS))
            connection.sendall(b"GET /metrics HTTP/1.0\r\nX: ")
            return connection

        yield connect


def test_connections_that_are_kept_open_shut_nobody_out(
    measured: Measured, connect: Callable[[], socket.socket]
) -> None:
    for _ in range(MAX_CONNECTIONS):
        connect()
    assert "# EOF" in measured.text()


def test_a_request_that_is_sent_byte_by_byte_is_cut(connect: Callable[[], socket.socket]) -> None:
    connection = connect()

    def is_cut() -> bool:
        time.sleep(0.1)
        try:
            connection.sendall(b"x")
        except ConnectionError:
            return True
        return False

    eventually(is_cut, within=SECONDS)


def test_counters_go_on_when_a_worker_is_replaced(measured: Measured, template: Template) -> None:
    with measured.api() as api:
        api.templates.GetTemplate(GetTemplateRequest(id=template.id))
    measured.settled()
    handled, restarts = measured.handled(), measured.value("omniflo_process_restarts_total", process="worker")
    for number in range(1, 3):
        before = measured.children()["worker"]
        os.kill(before[0], signal.SIGKILL)
        eventually(lambda before=before: len(set(measured.children()["worker"]) | set(before)) == 3, within=SECONDS)  # type: ignore[misc]
        eventually(
            lambda number=number: (  # type: ignore[misc]
                measured.value("omniflo_process_restarts_total", process="worker") == restarts + number
            ),
            within=SECONDS,
        )
        assert measured.handled() >= handled
    assert measured.handled() == handled
    assert measured.value("grpc_server_in_flight") == 0
    with measured.api() as api:
        api.templates.GetTemplate(GetTemplateRequest(id=template.id), wait_for_ready=True, timeout=SECONDS)
    eventually(lambda: measured.handled() == handled + 1, within=SECONDS)


def test_what_holds_for_the_living_ends_with_them(new_database: Callable[[], str], tmp_path: Path) -> None:
    url = new_database()
    with serving(url, tmp_path / "log", workers=1, metrics_listen="127.0.0.1:0") as service:
        measured = Measured(service, tmp_path / "log", url)
        with measured.api() as api:
            template = api.template()
        holder: Connection = psycopg2.connect(url)
        with holder.cursor() as cursor, measured.api() as api:
            cursor.execute("select 1 from templates where id = %s for update", (template.id,))
            update = UpdateTemplateRequest(template=Template(id=template.id, title="Changed"))
            call = api.templates.UpdateTemplate.future(update, timeout=SECONDS)
            updates = {"grpc_method": "UpdateTemplate"}
            eventually(lambda: measured.value("grpc_server_started_total", **updates) == 1, within=SECONDS)
            eventually(lambda: measured.value("grpc_server_in_flight") == 1, within=SECONDS)
            (worker,) = measured.children()["worker"]
            os.kill(worker, signal.SIGKILL)
            assert call.exception(SECONDS) is not None
            eventually(lambda: measured.value("grpc_server_in_flight") == 0, within=SECONDS)
            assert measured.value("grpc_server_started_total", **updates) == 1
        holder.close()


def test_a_metrics_process_that_dies_is_replaced_and_calls_go_on(measured: Measured, template: Template) -> None:
    handled = measured.handled()
    (killed,) = measured.children()["metrics"]
    os.kill(killed, signal.SIGKILL)
    with measured.api() as api:
        api.templates.GetTemplate(GetTemplateRequest(id=template.id), timeout=5)

    def is_back() -> bool:
        try:
            return measured.value("omniflo_process_restarts_total", process="metrics") >= 1
        except OSError:
            return False

    eventually(is_back, within=SECONDS)
    eventually(lambda: measured.handled() == handled + 1, within=SECONDS)
    assert measured.children()["metrics"] != [killed]


def test_a_service_that_was_killed_leaves_no_counts_to_the_next(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    url = new_database()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"

    def serve_and_kill() -> None:
        with serving(url, tmp_path / "first", metrics_listen=address) as service:
            measured = Measured(service, tmp_path / "first", url)
            with measured.api() as api:
                api.user()
            eventually(lambda: measured.handled("ProvisionUser") == 1, within=SECONDS)
            children = descendants(service.pid)
            os.kill(service.pid, signal.SIGKILL)
            eventually(lambda: not any(map(is_alive, children)), within=SECONDS)

    with pytest.raises(AssertionError):
        serve_and_kill()
    files = [file.stat() for file in tmp_path.glob("*.metrics/*.db")]
    assert len(files) > 3
    assert all(file.st_blocks * 512 >= file.st_size >= 1 << 16 for file in files), "it has less room than its size"
    with serving(url, tmp_path / "second", metrics_listen=address) as service:
        measured = Measured(service, tmp_path / "second", url)
        assert measured.handled("ProvisionUser") == 0
    assert list(tmp_path.glob("*.metrics")) == []


def test_nothing_of_it_runs_unless_it_is_asked_for(new_database: Callable[[], str], tmp_path: Path) -> None:
    with serving(new_database(), tmp_path / "log") as service:
        assert [len(children(service.pid, kind)) for kind in ("worker", "jobs", "metrics")] == [1, 0, 0]
    assert '"event":"metrics"' not in (tmp_path / "log").read_text()


def test_an_address_that_is_taken_is_refused_by_name(measured: Measured) -> None:
    done = run("serve", metrics_listen=measured.address, database_url="postgresql://nowhere/nothing")
    assert done.returncode == 1
    assert said(done).startswith(f"OMNIFLO_METRICS_LISTEN={measured.address}: the port is taken")


@pytest.mark.parametrize(("host", "is_open"), [("0.0.0.0", True), ("127.0.0.1", False)])  # noqa: S104 - as a mistake
def test_an_address_that_others_reach_is_warned_of(host: str, is_open: bool) -> None:
    settings: dict[str, Any] = {"auth": "required", "metrics_listen": f"{host}:0"}
    done = run("serve", "--migrate", database_url="postgresql://127.0.0.1:1/nothing", **settings)
    assert done.returncode == 1
    assert ("open metrics" in done.stderr) is is_open
