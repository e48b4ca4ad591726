"""A worker: procrastinate's, on a thread and an event loop of its own, which is kept going whatever happens to it."""

import asyncio
import functools
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

import procrastinate
import structlog
from procrastinate import jobs as engine
from procrastinate.worker import Worker as Engine
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from service import errors, logs, traces
from service.actor import SYSTEM
from service.call import Call
from service.call import running as in_call
from service.config import JOBS_AT_ONCE, Settings
from service.database.connections import OPTIONS
from service.database.handle import database
from service.database.transactions import sqlstate
from service.deadline import time_limit
from service.job_metrics import Jobs
from service.jobs import tasks
from service.jobs.tasks import Run, Task
from service.operations import jobs
from service.operations.jobs import Due

NAME = "omniflo-templates jobs"
"""Of the connections, as the database shows it."""
MOST_STARTS = 20
"""How often a job may be started: one that kills its worker is not taken back for ever."""
ANSWER_SECONDS = 10.0
"""How long the database may take to answer what keeps the worker going."""
HANDED_BACK_SECONDS = 5.0
"""After how long another worker may start a job that was handed back: by then PostgreSQL has ended its statement."""
CONNECT_SECONDS = 5
SILENT_MILLISECONDS = 30_000
LONGEST_PAUSE_SECONDS = 10.0
STOP_SECONDS = 3.0
"""How long the worker may take to end after its jobs have."""

_log = structlog.get_logger()


class Pace(NamedTuple):
    """How fast it goes, in seconds."""

    keep: float = 5.0
    """Between two looks at what is due and at what was left."""
    silent: float = 30.0
    """A worker that has said nothing for so long is dead."""
    retry: float = 10.0
    """Before a job that failed is tried again, give or take a half; four times as long before each further try."""
    tries: int = 5


class Worker:
    """A part that runs what is due, and what others have queued."""

    def __init__(
        self, settings: Settings, url: str, all_tasks: Sequence[Task], *, pace: Pace | None = None, metrics: Jobs | None
    ) -> None:
        self._settings = settings
        direct = settings.database_direct_url
        self.url = url if direct is None else direct.get_secret_value()
        """The database past a pooler."""
        self._tasks = all_tasks
        self._due = [Due(task.name, *when) for task in all_tasks if (when := tasks.schedule(task, settings))]
        self._pace = pace or Pace()
        self._metrics = metrics
        self._ended: dict[int, float | None] = {}
        """The jobs that are running, and when those have ended of which that is not yet written down for sure."""
        self._reached_since = float("-inf")
        """Since when the database has been there; infinity while it is not."""
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """Start no more jobs, and wait for those that run; those that take too long are handed back."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(self._settings.drain_seconds + STOP_SECONDS)

    def _run(self) -> None:
        # It says of each job what our line says, with its arguments; and of itself what is worth knowing as a warning.
        logging.getLogger("procrastinate.worker").setLevel(logging.CRITICAL)
        logging.getLogger("procrastinate.worker.worker").setLevel(logging.WARNING)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._keep_going())

    async def _keep_going(self) -> None:
        pause = 1.0
        with ThreadPoolExecutor(1, "keeper") as keeper:
            while not self._stopped.is_set():
                began = time.monotonic()
                try:
                    await self._work(keeper)
                except Exception as fault:  # noqa: BLE001 - whatever it is: the next one may do better
                    _log.warning("worker", error=type(fault).__name__, sqlstate=getattr(fault, "sqlstate", None))
                pause = (
                    1.0 if time.monotonic() - began > LONGEST_PAUSE_SECONDS else min(2 * pause, LONGEST_PAUSE_SECONDS)
                )
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), pause)
            await self._loop.run_in_executor(keeper, database.drop)

    async def _work(self, keeper: ThreadPoolExecutor) -> None:
        """Be one of procrastinate's workers, until the stop or until that one fails."""
        app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        for task in self._tasks:
            app.task(name=task.name, pass_context=True, retry=_Retry(self._pace))(self._runs(task))
        async with self._pool() as pool, app.open_async(pool):
            worker = Engine(
                app,
                queues=[task.name for task in self._tasks],
                concurrency=JOBS_AT_ONCE,
                fetch_job_polling_interval=self._pace.keep,
                stalled_worker_timeout=self._pace.silent,
                shutdown_graceful_timeout=self._settings.drain_seconds,
                install_signal_handlers=False,
            )
            work = asyncio.create_task(worker.run())
            try:
                await self._watch(worker, work, keeper)
            finally:
                work.cancel()
                await asyncio.wait({work})
            if not work.cancelled():
                work.result()

    async def _watch(self, worker: Engine, work: "asyncio.Task[None]", keeper: ThreadPoolExecutor) -> None:
        """Look after a worker until it has ended."""
        stop = asyncio.create_task(self._stopped.wait())
        while not work.done():
            if stop.done():
                worker.stop()
                if worker.worker_id is None:
                    # It waits for the database, or has ended but for what it tells the database.
                    work.cancel()
            if worker.worker_id is not None:
                keep = functools.partial(self._keep, worker.worker_id, self._running())
                if not await self._loop.run_in_executor(keeper, keep):
                    worker.stop()
            awaited = {work} if stop.done() else {work, stop}
            # A stop that comes while the worker still starts is not noticed by it, and is told again.
            pause = self._pace.keep if worker.worker_id is not None and not stop.done() else 0.1
            await asyncio.wait(awaited, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    def _running(self) -> list[int]:
        """Return the jobs that are running, or whose end may not be written down yet."""
        now = time.monotonic()
        for id, ended in list(self._ended.items()):
            if ended is not None and now - ended > self._pace.silent / 2:
                del self._ended[id]
        return list(self._ended)

    def _keep(self, worker_id: int, running: Sequence[int]) -> bool:
        """Say that the worker lives, take back what others have left, and queue what is due; False where it is dead."""
        try:
            with time_limit(ANSWER_SECONDS):
                lives = jobs.beat(SYSTEM, worker_id)
                now = time.monotonic()
                self._reached_since = min(self._reached_since, now)
                # Where the database was away, the others have been silent through no fault of theirs.
                if now - self._reached_since >= self._pace.silent:
                    self._take_back(worker_id, running)
                jobs.queue_due(SYSTEM, self._due)
        except Exception as fault:  # noqa: BLE001 - the next round may do better
            if self._reached_since != float("inf"):
                _log.warning("worker", error=type(fault).__name__, sqlstate=sqlstate(fault))
            self._reached_since = float("inf")
            return True
        return lives

    def _take_back(self, worker_id: int, running: Sequence[int]) -> None:
        taken = jobs.take_back(SYSTEM, worker_id, running, silent_seconds=self._pace.silent, most=MOST_STARTS)
        for job in taken:
            _log.warning("job", task=job.task, job=job.id, result="gave_up" if job.is_over else "taken_back")
            if self._metrics is not None:
                self._metrics.taken_back(job.task)

    def _pool(self) -> AsyncConnectionPool[AsyncConnection[Any]]:
        return AsyncConnectionPool(
            self.url,
            min_size=1,
            max_size=2,
            open=False,
            timeout=ANSWER_SECONDS,
            # A network that takes everything and answers nothing is noticed.
            kwargs=OPTIONS
            | {"application_name": NAME, "connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": SILENT_MILLISECONDS},
            configure=_configure,
            check=AsyncConnectionPool.check_connection,
        )

    def _runs(self, task: Task) -> Callable[..., Any]:
        """Return a coroutine that runs a task on a thread, which it leaves when the worker stops."""

        async def run(context: procrastinate.JobContext, due_time: str | None = None) -> None:
            job = context.job
            id = cast("int", job.id)
            self._ended[id] = None
            stopped = threading.Event()
            began = time.monotonic()
            fields: Mapping[str, Any] = {}
            result, write = "succeeded", _log.info
            try:
                fields = await _on_thread(task, Run(self._settings, self.url, stopped))
            except asyncio.CancelledError:
                stopped.set()
                result, write = "handed_back", _log.warning
                raise
            except Exception as fault:
                is_last = job.attempts + 1 >= self._pace.tries
                result, write = ("gave_up", _log.error) if is_last else ("failed", _log.warning)
                fields = {"reason": fault.reason} if isinstance(fault, errors.Error) else logs.described(fault)
                raise
            finally:
                seconds = time.monotonic() - began
                self._ended[id] = time.monotonic()
                write(
                    "job",
                    task=task.name,
                    job=id,
                    due_time=due_time,
                    attempt=job.attempts + 1,
                    result=result,
                    seconds=round(seconds, 3),
                    **fields,
                )
                if self._metrics is not None:
                    self._metrics.ended(task.name, result, seconds)

        return run


class _Retry(procrastinate.BaseRetryStrategy):
    """Tries a job again that failed, a few times and ever later; and soon, one that was handed back."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def get_retry_decision(self, *, exception: BaseException, job: engine.Job) -> procrastinate.RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            seconds = HANDED_BACK_SECONDS
        elif job.attempts + 1 >= self._pace.tries:
            return None
        else:
            # Not a secret: so that what failed together is not tried again together.
            seconds = self._pace.retry * 4**job.attempts * random.uniform(0.5, 1.5)  # noqa: S311 - see above
        return procrastinate.RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=seconds))


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)
    await connection.execute(f"set statement_timeout = '{ANSWER_SECONDS}s'")


async def _on_thread(task: Task, run: Run) -> Mapping[str, Any]:
    """Run a task on a thread that the end of the process does not wait for, with a connection of its own."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Mapping[str, Any]] = loop.create_future()

    def tell(result: Mapping[str, Any] | None, fault: Exception | None) -> None:
        if outcome.done():
            return
        if fault is not None:
            outcome.set_exception(fault)
        else:
            outcome.set_result(result or {})

    def work() -> None:
        result, fault = None, None
        try:
            with in_call(Call(task.name)), traces.work(f"job {task.name}"):
                result = task.run(run)
                if not run.stopped.is_set():
                    with time_limit(ANSWER_SECONDS):
                        jobs.report(SYSTEM, task.name, result)
        except Exception as found:  # noqa: BLE001 - whoever waits is told
            fault = found
        finally:
            database.drop()
        # Nobody waits any more where the loop has ended.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result, fault)

    threading.Thread(target=work, name=task.name, daemon=True).start()
    return await outcome
