"""`python -m tests.openai_stand_in COMMAND…` runs a command with OPENAI_BASE_URL and OPENAI_API_KEY set to one."""

import os
import signal
import subprocess
import sys

from tests.openai_stand_in import KEY, PORT, StandIn


def main(command: list[str]) -> int:
    """Run the command beside a stand-in, and return its exit code."""
    stand_in = StandIn(PORT)
    # An answer that is worth watching.
    stand_in.event_seconds = 0.1
    print(f"A stand-in for OpenAI: export OPENAI_BASE_URL={stand_in.url} OPENAI_API_KEY={KEY}", flush=True)
    environment = {**os.environ, "OPENAI_BASE_URL": stand_in.url, "OPENAI_API_KEY": KEY}
    with subprocess.Popen(command, env=environment) as process:
        # Ctrl-C reaches the command as well; SIGTERM is handed on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
        code = process.wait()
    stand_in.close()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
