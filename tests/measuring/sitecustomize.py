"""Notes which lines of `service/` run, where COVERED names a folder for the notes. Python imports it by its name.

SlipCover takes its probes out again once a line was seen. So what is measured is as fast as what is not, but for the
imports.
"""

import atexit
import json
import os
from multiprocessing import util
from pathlib import Path

if into := os.environ.get("COVERED"):
    import slipcover  # type: ignore[import-untyped]

    class _Slipcover(slipcover.Slipcover):  # type: ignore[misc]
        def _get_newly_seen(self) -> dict[str, set[object]]:
            # Copies, since other threads may still add to them while they are read. The error that would follow is
            # raised by whatever the measured code calls next.
            return {file: set(lines) for file, lines in list(super()._get_newly_seen().items())}

    _measured = _Slipcover(branch=True)
    slipcover.ImportManager(_measured, slipcover.FileMatcher(sources=["service"])).__enter__()

    def _write(folder: Path = Path(into)) -> None:
        for file, seen in _measured._get_newly_seen().items():
            _measured.all_seen[file] |= seen
        lines = {file: list(seen) for file, seen in _measured.all_seen.items()}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(lines))

    atexit.register(_write)
    # Those that `multiprocessing` forks end without it, and forget what their parent would do at its end.
    util.register_after_fork(_measured, lambda _: util.Finalize(None, _write, exitpriority=0))
