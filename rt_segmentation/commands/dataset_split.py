"""`rt_seg dataset split`: splits of a folder of labelled images, with no drive in two of them."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any

from rt_segmentation.commands.options import OptionError
from rt_segmentation.files import user_path, write_atomically
from rt_segmentation.text import counted, printable

BY = ("drive", "folder", "stamp", "name")
MANIFEST = "splits.yaml"
_NAME = re.compile(r"[\w-]+")


def add_arguments(actions: Any) -> None:
    """Add the action and its options."""
    split = actions.add_parser("split", help="lists of frames, with no drive in two of them")
    split.add_argument(
        "--data-root", type=user_path, required=True, help="the folder; the lists are put there"
    )
    split.add_argument(
        "--by",
        choices=BY,
        default="drive",
        help="what a drive is: a folder, the time between pauses, a name without its last number; drive"
        " (default) takes the first of these that tells several drives apart",
    )
    split.add_argument("--pattern", metavar="REGEX", help="of names: its first group is the drive")
    split.add_argument("--gap-s", type=float, help="of two frames of two drives, by stamp [s] (default 10)")
    split.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="SPLIT=X",
        help="a split and its share of the frames; may be repeated (default train=0.8 and val=0.2)",
    )
    split.add_argument("--seed", type=int, default=0, help="other splits with another one (default 0)")
    split.add_argument(
        "--overwrite", action="store_true", help=f"replace lists that are there, all that {MANIFEST} names"
    )


def split(arguments: argparse.Namespace) -> None:
    """Write SPLIT.txt for each split, and `splits.yaml` with how they were made.

    Raises:
        DatasetError: there are no labelled frames, or too few drives.
        OptionError: an option is wrong, or lists are there.
    """
    import yaml

    from rt_segmentation.data.dataset import DatasetError
    from rt_segmentation.data.drives import GAP_S, assign
    from rt_segmentation.data.split_lists import find_frames, list_file, write_list

    shares = _shares(arguments.share)
    root = arguments.data_root
    targets = [*(list_file(root, name) for name in shares), root / MANIFEST]
    there = [printable(path) for path in targets if path.exists()]
    if there and not arguments.overwrite:
        raise OptionError(f"{', '.join(there)}: there already; give --overwrite")
    gap_s = GAP_S if arguments.gap_s is None else arguments.gap_s
    if not 0 < gap_s < float("inf"):
        raise OptionError(f"--gap-s is {gap_s:g}; it must be above 0 [s]")
    if arguments.gap_s is not None and (arguments.by == "folder" or arguments.by == "name"):
        raise OptionError(f"--gap-s is of --by stamp, not of --by {arguments.by}")
    folders = find_frames(root)
    pairs = [(folder, pair) for folder in folders for pair in folders[folder]]
    how, drives = _drives(arguments, [(folder, pair.name) for folder, pair in pairs], gap_s)
    sizes = Counter(drives)
    if how == "name" and len(sizes) == len(pairs):
        raise DatasetError(
            f"by its name each of {len(pairs)} frames is a drive of its own, as '{drives[0]}', and frames of"
            " one drive would be in two splits; tell drives apart with --pattern, or put each into a folder"
        )
    chosen = assign(sizes, shares, arguments.seed)
    frames = Counter(chosen[drive] for drive in drives)
    for name in shares:
        write_list(root, name, (pair for (_, pair), drive in zip(pairs, drives) if chosen[drive] == name))
    # A list of before would share frames with those of now.
    gone = [
        name for name in _named(root / MANIFEST) if name not in shares and list_file(root, name).is_file()
    ]
    for name in gone:
        list_file(root, name).unlink()
    content = {
        "by": how,
        "seed": arguments.seed,
        "splits": {
            name: {
                "share": shares[name],
                "frames": frames[name],
                "drives": {d: sizes[d] for d in sorted(sizes) if chosen[d] == name},
            }
            for name in shares
        },
    }
    write_atomically(root / MANIFEST, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    if gone:
        print(f"removed, as no split now: {', '.join(str(list_file(root, name)) for name in gone)}")
    print(f"{len(sizes)} drives by {how}")
    for name, share in shares.items():
        of = sorted(drive for drive in sizes if chosen[drive] == name)
        got = 100 * frames[name] / len(pairs)
        print(
            f"{name}: {frames[name]} frames, {got:.1f} % ({100 * share:g} % wanted)"
            f", of {counted(len(of), 'drive')}: {', '.join(of[:10])}" + (", …" if len(of) > 10 else "")
        )


def _named(manifest: Path) -> list[str]:
    """The splits that a manifest of before names; none where it cannot be read."""
    import yaml

    from rt_segmentation.settings import load_yaml

    try:
        splits = load_yaml(manifest.read_text(encoding="utf-8"))["splits"]
        return [name for name in splits if isinstance(name, str) and _NAME.fullmatch(name)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError):
        return []


def _shares(texts: list[str]) -> dict[str, float]:
    shares = {}
    for text in texts or ["train=0.8", "val=0.2"]:
        name, _, value = text.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not _NAME.fullmatch(name) or not 0 < share < 1 or name in shares:
            raise OptionError(f"--share '{text}' should be SPLIT=X, as val=0.2, once for each split")
        shares[name] = share
    if len(shares) < 2 or abs(sum(shares.values()) - 1) > 1e-6:
        raise OptionError(f"the shares of {', '.join(shares)} are {sum(shares.values()):g} in all, not 1")
    return shares


def _drives(
    arguments: argparse.Namespace, names: list[tuple[str, str]], gap_s: float
) -> tuple[str, list[str]]:
    """How drives were told apart, and the drive of each frame (folder, name)."""
    from rt_segmentation.data import drives

    full = [f"{folder}/{name}" if folder else name for folder, name in names]
    own = [name for _, name in names]
    if arguments.pattern is not None:
        try:
            pattern = re.compile(arguments.pattern)
        except re.error as error:
            raise OptionError(f"--pattern '{arguments.pattern}' is no regular expression: {error}") from error
        return f"pattern {arguments.pattern}", drives.drives_by_pattern(full, pattern)
    by_stamp = f"stamp, a pause of more than {gap_s:g} s"
    if arguments.by == "folder":
        return "folder", [folder for folder, _ in names]
    if arguments.by == "stamp":
        return by_stamp, drives.drives_by_stamp(own, gap_s)
    if arguments.by == "name":
        return "name", drives.drives_by_name(full)
    # Folders of splits that were made before say nothing of drives.
    folders = [folder for folder, _ in names]
    if len(set(folders)) > 1 and not set(folders) <= {"", "train", "val", "test", "validation", "training"}:
        return "folder", folders
    if all(drives.stamp_of(name) is not None for name in own):
        return by_stamp, drives.drives_by_stamp(own, gap_s)
    return "name", drives.drives_by_name(own)
