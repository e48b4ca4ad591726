"""All that the processes of the service import. They are forked from one that has done so, once for all of them.

Only that one imports this module: see `processes`.
"""

import gc
import signal

from service.server.processes import STOP_SIGNALS

# What ends a whole group ends this process when the others have ended. The others let them in when they can hear them.
signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

import service.jobs.assistants  # noqa: E402 - after the above, since it takes a second
import service.jobs.processing  # noqa: E402
import service.jobs.tasks  # noqa: E402
import service.jobs.worker  # noqa: E402
import service.server.endpoint  # noqa: E402
import service.server.wiring  # noqa: E402,F401

# Collections in the others would write to what is here, and so have a copy of it each.
gc.collect()
gc.freeze()
