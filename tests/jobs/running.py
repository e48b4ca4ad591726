"""A process that does runs, until it is killed."""

import threading
import time
from multiprocessing.synchronize import Event

from pydantic import SecretStr

from service import logs, openai_runs
from service.database.handle import database
from service.jobs.processing import Pace, Processing
from service.openai_files import Files
from service.openai_gateway import Gateway
from service.openai_runs import Runs
from service.operations import processing_work
from tests.openai_stand_in import KEY

HOLD_SECONDS = 2.0
"""After how long another one takes over."""


def live(url: str, openai_url: str, begun: Event) -> None:
    logs.configure("json", "error")
    database.configure(url)
    processing_work.HOLD_SECONDS = HOLD_SECONDS
    gateway = Gateway(SecretStr(KEY), openai_url)
    runs = Runs(gateway, openai_runs.Pace(silent=3.0, stop=0.5, poll=0.2))
    pace = Pace(tick=0.05, take=0.1, keep=0.5)
    Processing(runs, Files(gateway), at_once=4, drain_seconds=1, pace=pace).start()
    begun.set()
    while threading.main_thread().is_alive():
        time.sleep(1)
