"""`make clients`: run the blocks of README.md, as one would paste them, against a service that asks who calls.

A language whose tools are not installed is left out, and the output says so.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from omniflo.templates.v1.template_pb2 import Template
from omniflo.templates.v1.template_service_pb2 import CreateTemplateRequest
from omniflo.templates.v1.template_service_pb2_grpc import TemplateServiceStub

HERE = Path(__file__).parent
TOOLS = {"Python": ["python3"], "Go": ["go"], "TypeScript": ["node", "npm"], "Java": ["javac", "mvn"]}
SECONDS = 600.0
"""The longest that one language may take: the first time, it downloads what it needs."""
SERVICE = [sys.executable, "-m", "service"]


def main() -> int:
    failed = []
    with TemporaryDirectory() as folder, registry(Path(folder)) as environment:
        for language, tools in TOOLS.items():
            missing = [tool for tool in tools if shutil.which(tool) is None]
            if missing:
                print(f"{language}: left out, since {' and '.join(missing)} cannot be found", flush=True)
                continue
            start = time.monotonic()
            done = subprocess.run(
                ["/bin/bash", "-c", f"set -euo pipefail\n{block(language)}"],
                cwd=HERE.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            missing = [line for line in expected(language) if line not in done.stdout]
            if done.returncode or missing:
                failed.append(language)
                print(
                    f"{language}: failed ({done.returncode}), and does not print {missing}\n{done.stdout}", flush=True
                )
            else:
                print(f"{language}: passed in {time.monotonic() - start:.0f} s", flush=True)
    return int(bool(failed))


def block(language: str) -> str:
    section = (HERE / "README.md").read_text().partition(f"\n## {language}\n")[2]
    return section.partition("```sh\n")[2].partition("```")[0]


def expected(language: str) -> list[str]:
    return [
        'send to OpenAI: {"model": "gpt-5.5", "instructions": "Extract the total of each invoice."',
        f"description: Used from {language}",
        " FIELD_INVALID: ",
        "  template.temperature: must be ",
    ]


@contextmanager
def registry(folder: Path) -> Iterator[dict[str, str]]:
    """Serve from that folder for the time of the block; yield the environment of a caller who has a template."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMNIFLO_")}
    settings = {"OMNIFLO_DATA_DIR": str(folder / "data"), "OMNIFLO_LISTEN": "127.0.0.1:0", "OMNIFLO_WORKERS": "1"}
    environment = inherited | settings
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*SERVICE, "serve", "--migrate", "--seed"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            first = process.stdout.readline() if process.stdout else ""
            serving = re.match(r"Serving on (\S+)\. ", first)
            if serving is None:
                sys.exit(f"the service has not started:\n{(folder / 'log').read_text()}")
            create = [*SERVICE, "keys", "create", "--user", "user_1", "--name", "examples", "--scope", "write"]
            key = subprocess.run(create, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
            write_template(serving[1], key)
            yield inherited | {"TEMPLATES_ADDRESS": serving[1], "TEMPLATES_KEY": key, "USER_ID": ""}
        finally:
            process.terminate()


def write_template(address: str, key: str) -> None:
    template = Template(
        title="Invoices",
        instructions="Extract the total of each invoice.",
        template_type="data-processing",
        model="gpt-5.5",
    )
    with grpc.insecure_channel(address) as channel:
        TemplateServiceStub(channel).CreateTemplate(
            CreateTemplateRequest(template=template, select=True),
            timeout=10,
            metadata=(("authorization", f"Bearer {key}"),),
        )


if __name__ == "__main__":
    sys.exit(main())
