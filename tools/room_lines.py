"""Lines of Python by room, at some commits: `python -m tools.room_lines 722aa9b HEAD` prints them as a table.

A room is a folder of the package; its modules that lie in none are one. Blank lines and comments count.
"""

from __future__ import annotations

import argparse
import subprocess
from collections import Counter
from collections.abc import Sequence

from rt_segmentation.errors import RtSegmentationError
from tools.running import run_tool

PACKAGE, MODULES = "rt_segmentation", "single modules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("commits", nargs="*", default=["HEAD"], help="commits to count at (default HEAD)")


def main(arguments: argparse.Namespace) -> None:
    """Print the table.

    Raises:
        RtSegmentationError: there is no such commit.
    """
    print(to_markdown(arguments.commits, [lines_by_room(commit) for commit in arguments.commits]))


def lines_by_room(commit: str) -> Counter[str]:
    """Lines of the package's rooms at a commit, and of the other folders of the repository.

    Raises:
        RtSegmentationError: there is no such commit.
    """
    command = ["git", "grep", "--count", "-e", "", commit, "--", "*.py"]
    counted = subprocess.run(command, capture_output=True, text=True, check=False)
    if counted.returncode:
        raise RtSegmentationError(f"no lines can be counted at '{commit}': {counted.stderr.strip()}")
    found: Counter[str] = Counter()
    for line in counted.stdout.splitlines():
        _, path, count = line.rsplit(":", 2)
        found[room(path)] += int(count)
    return found


def room(path: str) -> str:
    """Where a file of the repository lives; ends with a slash outside the package."""
    first, *rest = path.split("/")
    if first == PACKAGE:
        return rest[0] if len(rest) > 1 else MODULES
    return f"{first}/" if rest else "setup.py/"


def to_markdown(commits: Sequence[str], counts: Sequence[Counter[str]]) -> str:
    """A column for each commit; the rooms, their sum, and what is beside the package."""
    lines = [f"| room | {' | '.join(commits)} |", "|---" * (len(commits) + 1) + "|"]
    rooms = sorted({room for count in counts for room in count})
    inside = [room for room in rooms if not room.endswith("/")]
    rows = [(room, [count[room] for count in counts]) for room in inside]
    rows.append(("the package", [sum(count[room] for room in inside) for count in counts]))
    rows += [(room[:-1], [count[room] for count in counts]) for room in rooms if room.endswith("/")]
    lines += [f"| {name} | {' | '.join(map(str, numbers))} |" for name, numbers in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
