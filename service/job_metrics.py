"""The metrics of a process for jobs: of its tasks, of its runs on files, and of its copies of templates."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics import Happenings, gauge

JOB_SECONDS = (0.01, 0.1, 1, 10, 60, 300, 1800, 7200)
JOB_RESULTS = ("succeeded", "failed", "gave_up", "handed_back")

RUN_SECONDS = (1, 5, 15, 60, 300, 1200, 3600)
RUN_RESULTS = ("completed", "failed", "cancelled", "put_off", "given_back", "lost", "given_up")

COPY_STATES = ("none", "pending", "synced", "failed")


class Jobs:
    """The metrics of a process that runs jobs."""

    def __init__(self, tasks: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()
        self.happenings = Happenings(registry)
        runs = Counter("omniflo_job_runs", "Runs of tasks that have ended.", ["task", "result"], registry=registry)
        seconds = Histogram(
            "omniflo_job_seconds", "How long runs of tasks took.", ["task"], registry=registry, buckets=JOB_SECONDS
        )
        taken_back = Counter(
            "omniflo_jobs_taken_back", "Jobs whose worker did not say how they ended.", ["task"], registry=registry
        )
        # All of them are there from the start, at 0.
        self._runs = {(task, result): runs.labels(task, result) for task in tasks for result in JOB_RESULTS}
        tasks = {task for task, _ in self._runs}
        self._seconds = {task: seconds.labels(task) for task in tasks}
        self._taken_back = {task: taken_back.labels(task) for task in tasks}

    def ended(self, task: str, result: str, seconds: float) -> None:
        self._runs[task, result].inc()
        self._seconds[task].observe(seconds)

    def taken_back(self, task: str) -> None:
        # A newer release may have other tasks.
        if task in self._taken_back:
            self._taken_back[task].inc()


class FileRuns:
    """The metrics of runs on files, in a process that does them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._in_flight = gauge(registry, "omniflo_file_runs_in_flight", "Runs on files that a process does.")
        runs = Counter("omniflo_file_runs", "Runs on files that a process has let go.", ["result"], registry=registry)
        self._runs = {result: runs.labels(result) for result in RUN_RESULTS}
        self._seconds = Histogram(
            "omniflo_file_run_seconds",
            "How long a process did a run on a file.",
            registry=registry,
            buckets=RUN_SECONDS,
        )

    def began(self) -> None:
        self._in_flight.inc()

    def ended(self, result: str, seconds: float) -> None:
        self._runs[result].inc()
        self._seconds.observe(seconds)
        self._in_flight.dec()


class Copies:
    """The metrics of the part that copies templates."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._states = Gauge(
            "omniflo_assistants",
            "Templates by the state of their copy.",
            ["state"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._oldest = gauge(
            registry, "omniflo_assistants_oldest_pending_seconds", "Since the oldest copy is pending.", mode="max"
        )
        self._has_ended = gauge(
            registry, "omniflo_assistants_ended", "1 where the server has no assistants: none is copied.", mode="max"
        )
        self._has_ended.set(0)

    def count(self, states: Mapping[str, int], oldest_seconds: float) -> None:
        for state in COPY_STATES:
            self._states.labels(state).set(states.get(state, 0))
        self._oldest.set(oldest_seconds)

    def ended(self) -> None:
        """Note that nothing is copied any more."""
        self.count({}, 0)
        self._has_ended.set(1)
