"""Workers that are killed while they work."""

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event


def kill(process: ForkServerProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@contextmanager
def killed_again_and_again(
    start: Callable[[Event], ForkServerProcess], workers: int, *, seconds: tuple[float, float]
) -> Iterator[list[int]]:
    """Have workers, one after the other of which is killed when it has worked for so long; yield who was.

    `start` starts one, which sets the event when it works.
    """
    context, dice, over = multiprocessing.get_context("forkserver"), random.Random(1), threading.Event()
    kills: list[int] = []
    # Who is killed before it works keeps the work waiting, and on a slow machine for ever.
    working = [context.Event() for _ in range(workers)]
    running = [start(event) for event in working]

    def go_on() -> None:
        while not over.is_set():
            number = len(kills) % workers
            if not working[number].wait(1) or over.wait(dice.uniform(*seconds)):
                continue
            kill(running[number])
            kills.append(number)
            working[number].clear()
            running[number] = start(working[number])

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            yield kills
        finally:
            over.set()
    for process in running:
        kill(process)
    going.result()
