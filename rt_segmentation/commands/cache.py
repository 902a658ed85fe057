"""`rt_seg cache`: what is kept of engines on this machine."""

from __future__ import annotations

import argparse
import json
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
    actions.add_parser("clear", help="delete all cached engines")


def main(arguments: argparse.Namespace) -> None:
    """List what the cache holds, or delete it."""
    from rt_segmentation.inference import cache

    root = cache.cache_root()
    if arguments.action == "clear":
        print(f"{root}: {cache.clear() / 1e6:.1f} MB deleted")
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
