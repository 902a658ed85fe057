"""`rt_seg cache`: what is kept of engines on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rt_segmentation.inference import cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="list the cached engines").add_argument(
        "--json", action="store_true", help="print JSON"
    )
    clear = actions.add_parser("clear", help="delete what is cached; asks first")
    clear.add_argument(
        "--keep-tuned", action="store_true", help="keep what rt_seg tune found, which takes minutes to find"
    )
    clear.add_argument("-y", "--yes", action="store_true", help="do not ask")


def main(arguments: argparse.Namespace) -> None:
    """List what the cache holds, or delete it.

    Raises:
        OptionError: there is something to delete, and neither --yes nor a terminal to ask on.
    """
    from rt_segmentation.inference import cache

    root = cache.cache_root()
    if arguments.action == "clear":
        _clear(root, arguments.keep_tuned, arguments.yes)
        return
    rows = [describe(entry) for entry in cache.entries()]
    if arguments.json:
        print(json.dumps({"path": str(root), "entries": rows}, indent=2))
        return
    if not rows:
        print(f"{root}: empty; engines are built at the first frames, or by `rt_seg export`")
    for row in rows:
        size = f"{row['width']}x{row['height']}" + (f", batch {row['batch']}" if row["batch"] else "")
        what = " ".join(part for part in (row["kind"], row["precision"]) if part)
        line = f"{row['model']:<20} {size:<20} {what:<18} {row['size_bytes'] / 1e6:8.1f} MB"
        print(line + "".join(f", {note}" for note in _notes(row)))


def _clear(root: Path, keep_tuned: bool, agreed: bool) -> None:
    from rt_segmentation.commands.options import OptionError
    from rt_segmentation.inference import cache_contents, tuned, tuning

    of_tune = (tuned.KIND, tuning.KIND)
    keep = of_tune if keep_tuned else ()
    held = cache_contents.held(keep)
    if not held:
        print(f"{root}: nothing to delete")
        return
    megabytes = sum(one.size_bytes for one in held) / 1e6
    what = f"{len(held)} {'entries' if len(held) > 1 else 'entry'}, {megabytes:.1f} MB"
    kinds = sorted({one.kind for one in held})
    if not agreed and (sys.stdin is None or not sys.stdin.isatty()):
        keeping = ", with --keep-tuned to keep what `rt_seg tune` found" if {*kinds} & {*of_tune} else ""
        raise OptionError(f"{root} has {what}: give --yes to delete them without being asked{keeping}")
    print(f"{root}: {what} to delete")
    for kind in kinds:
        sizes = [one.size_bytes for one in held if one.kind == kind]
        note = ", found by `rt_seg tune`: --keep-tuned keeps it" if kind in of_tune else ""
        print(f"{kind:<18} {len(sizes):4} {sum(sizes) / 1e6:8.1f} MB{note}")
    if not agreed:
        # Not by input(), which asks where the output goes.
        sys.stdout.flush()
        print("Delete them? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print(f"{root}: nothing is deleted")
            return
    print(f"{root}: {cache_contents.clear(keep) / 1e6:.1f} MB deleted")


def describe(entry: cache.CacheEntry) -> dict[str, Any]:
    """An entry as JSON's types; the keys are always the same."""
    identity = entry.key["identity"]
    return {
        "folder": str(Path(entry.folder)),
        "kind": entry.key["kind"],
        **{name: identity.get(name) for name in ("model", "width", "height", "batch", "precision", "device")},
        **{name: entry.data.get(name) for name in ("agreement", "threshold", "passed", "timings", "date")},
        "size_bytes": entry.size_bytes,
        "made_with": dict(entry.key["made_with"]),
    }


def _notes(row: dict[str, Any]) -> Iterator[str]:
    if row["agreement"] is not None:
        verdict = "passed" if row["passed"] else f"refused, {row['threshold']:.1%} is needed"
        yield f"{row['agreement']:.2%} of torch's labels: {verdict}"
    if row["timings"]:
        best = row["timings"][0]
        yield f"fastest: {best['engine']} {best['precision']}, {best['median_ms']:.1f} ms ({row['date']})"
