"""Prints which lines of `service/` none of the processes ran whose notes are in a folder; fails below 98 percent."""

import json
import sys
from pathlib import Path

import slipcover  # type: ignore[import-untyped]

PERCENT = 98


def main(folder: str) -> int:
    measured = slipcover.Slipcover(branch=True, source=["service"], exclude_also=["if TYPE_CHECKING:"])
    for notes in Path(folder).iterdir():
        for file, seen in json.loads(notes.read_text()).items():
            # A number is a line, and two are a branch.
            measured.all_seen[file] |= {tuple(one) if isinstance(one, list) else one for one in seen}
    found = measured.get_coverage()
    slipcover.print_coverage(found, skip_covered=True)
    percent = found["summary"]["percent_covered"]
    print(f"{percent:.1f} percent of service/")
    return int(percent < PERCENT)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
