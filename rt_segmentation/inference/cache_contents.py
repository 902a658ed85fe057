"""What lies in the cache of engines, whoever left it: for `rt_seg cache`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rt_segmentation.inference.cache import DESCRIPTION, cache_root, discard


@dataclass(frozen=True)
class Held:
    """A folder of the cache.

    Attributes:
        kind: of its entry; 'unfinished' for what a crash left, 'other' for what is no entry, or damaged.
        size_bytes: of all its files.
    """

    folder: Path
    kind: str
    size_bytes: int


def held(keep: Collection[str] = ()) -> list[Held]:
    """All folders by name, but for entries of the kinds to keep; what is in their files is not looked at."""
    root = cache_root()
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        # Another process may delete or replace it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if folder.is_dir():
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                found.append(Held(folder, _kind(folder), size))
    return [one for one in found if one.kind not in keep]


def clear(keep: Collection[str] = ()) -> int:
    """Delete everything, also what is damaged or was left by a crash; returns the bytes that were freed.

    Args:
        keep: kinds of entries that stay.
    """
    freed = 0
    # Lock files stay: deleting one would let two processes hold two locks of the same name.
    for one in held(keep):
        with contextlib.suppress(FileNotFoundError):
            discard(one.folder)
            freed += one.size_bytes
    return freed


def _kind(folder: Path) -> str:
    if folder.name.startswith("."):
        return "unfinished"
    try:
        return str(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return "other"
