"""Load on one server: by h2load where there is one, else by a client of ours."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from bench import http2, machine
from bench.figures import Shape, percentile
from bench.http2 import PREFIX, Call, LoadError, NoAnswerError, prefixed

_TRAILING_SECONDS = 30
"""How long h2load may take beyond the time of its measurement."""


class Outcome(NamedTuple):
    requests: int
    rps: float
    p50_ms: float
    p99_ms: float


def describe() -> str:
    """Say what makes the load."""
    if h2load := shutil.which("h2load"):
        version = subprocess.run([h2load, "--version"], capture_output=True, text=True, check=False)
        return f"h2load ({version.stdout.strip()})"
    return "a client of this harness's own, in Python, since h2load is absent: it takes more of its core than h2load"


def run(port: int, call: Call, shape: Shape, seconds: float, *, cores: tuple[int, ...], folder: Path) -> Outcome:
    """Keep the calls of the shape in flight for so long; LoadError unless all answers are good."""
    if shutil.which("h2load"):
        return _h2load(port, call, shape, seconds, cores=cores, folder=folder)
    # It runs in this process, wherever this process is pinned to.
    return _own(port, call, shape, seconds)


def _h2load(port: int, call: Call, shape: Shape, seconds: float, *, cores: tuple[int, ...], folder: Path) -> Outcome:
    body, log = folder / "request", folder / "latencies"
    body.write_bytes(prefixed(call.request))
    log.unlink(missing_ok=True)
    command = machine.on(
        cores,
        "h2load",
        *("--clients", str(shape.connections), "--max-concurrent-streams", str(shape.streams)),
        *("--duration", f"{round(1000 * seconds)}ms", "--threads", "1"),
        *("--header", "content-type: application/grpc", "--header", "te: trailers"),
        *("--data", str(body), "--log-file", str(log), f"http://127.0.0.1:{port}{call.path}"),
    )
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds + _TRAILING_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    counts = re.search(r"(\d+) succeeded, (\d+) failed", done.stdout)
    octets = re.search(r"\((\d+)\) data", done.stdout)
    if done.returncode != 0 or counts is None or octets is None:
        raise LoadError(f"h2load failed:\n{done.stdout}\n{done.stderr}")
    # Start, HTTP status and microseconds of each answer.
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    latencies = sorted(int(microseconds) / 1000 for _, _, microseconds in lines)
    # h2load looks at the HTTP status, which is 200 for an error of gRPC as well; an error has no body. What is in
    # flight at the end is received in part.
    requests = int(counts[1])
    expected = requests * (PREFIX + call.answer_size)
    in_flight = shape.connections * shape.streams * (PREFIX + call.answer_size)
    if not requests and not int(counts[2]):
        raise NoAnswerError(f"no answer within {seconds} s")
    if int(counts[2]) > 0 or abs(int(octets[1]) - expected) > in_flight:
        raise LoadError(
            f"not every answer was good, {octets[1]} octets of bodies instead of {expected}:\n{done.stdout}"
        )
    return Outcome(requests, requests / seconds, percentile(latencies, 50), percentile(latencies, 99))


def _own(port: int, call: Call, shape: Shape, seconds: float) -> Outcome:
    answers = http2.load(port, call, shape, seconds)
    if answers.failures:
        raise LoadError(f"{answers.failures} answers were not good, {len(answers.latencies)} were")
    if not answers.latencies:
        raise NoAnswerError(f"no answer within {seconds} s")
    latencies = sorted(1000 * latency for latency in answers.latencies)
    requests = len(latencies)
    return Outcome(requests, requests / answers.seconds, percentile(latencies, 50), percentile(latencies, 99))
