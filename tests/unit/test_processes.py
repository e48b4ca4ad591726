"""How a process hears that it is to end."""

import signal
import threading
from multiprocessing.connection import wait

import pytest

from service.server import processes

ENDS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_is_heard_whichever_thread_gets_it(number: signal.Signals) -> None:
    with processes.signals() as stop:
        # As the kernel may do with a process of many threads.
        other = threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), number))
        other.start()
        assert wait([stop], timeout=2) == [stop]
        other.join()


def test_signals_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in ENDS]
    with processes.signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in ENDS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_terminal_that_closes_does_not_end_what_nohup_started() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with processes.signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
