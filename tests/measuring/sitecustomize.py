"""Notes which lines of `service/` run, where COVERED names a folder for the notes. Python imports it by its name.

SlipCover takes its probes out again once a line was seen. So what is measured is as fast as what is not, but for the
imports, and for processes that were forked, which keep their probes.
"""

import atexit
import json
import os
from contextlib import suppress
from multiprocessing import util
from pathlib import Path

if into := os.environ.get("COVERED"):
    import slipcover  # type: ignore[import-untyped]

    class _Slipcover(slipcover.Slipcover):  # type: ignore[misc]
        def deinstrument_seen(self) -> None:
            # It looks through what other threads change meanwhile. The error that would follow is raised by whatever
            # the measured code calls next.
            with suppress(RuntimeError):
                super().deinstrument_seen()

    _measured = _Slipcover(branch=True)
    slipcover.ImportManager(_measured, slipcover.FileMatcher(sources=["service"])).__enter__()

    def write(folder: Path = Path(into)) -> None:
        for file, seen in _measured._get_newly_seen().items():
            _measured.all_seen[file] |= seen
        lines = {file: list(seen) for file, seen in _measured.all_seen.items()}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(lines))

    atexit.register(write)

    def _forked(measured: _Slipcover) -> None:
        # Those that `multiprocessing` forks end without it, and forget what their parent would do at its end.
        util.Finalize(None, write, exitpriority=0)
        # Taking probes out stops all threads for half a second, and others measure how long calls take.
        measured.deinstrument_seen = lambda: None  # type: ignore[method-assign]

    util.register_after_fork(_measured, _forked)
