"""Splits as lists: SPLIT.txt beside the images, a line of image and label file for each frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rt_segmentation.data.dataset import DatasetError, Pair, Pairing, name_some, pair_files
from rt_segmentation.files import write_atomically
from rt_segmentation.text import one_line, printable

COMMENT = "#"


def list_file(root: Path, split: str) -> Path:
    """Where a split's list is."""
    return root / f"{split}.txt"


def read_list(root: Path, split: str) -> Pairing:
    """The frames of a list: a line is IMAGE, a tab, LABELS, both relative to the root.

    Raises:
        DatasetError: the list cannot be read, is empty, or names a file outside the root or one twice.
    """
    path = list_file(root, split)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"list {path} cannot be read: {error}") from error
    pairs: dict[PurePosixPath, Pair] = {}
    missing = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(COMMENT):
            continue
        parts = line.split("\t")
        if len(parts) != 2:
            raise DatasetError(f"list {path}, line {number}: '{line}' is not IMAGE, a tab, LABELS")
        for part in parts:
            pure = PurePosixPath(part)
            if pure.is_absolute() or ".." in pure.parts:
                raise DatasetError(f"list {path}, line {number}: '{part}' is outside {root}")
        own = PurePosixPath(parts[0])
        if own in pairs:
            raise DatasetError(f"list {path}, line {number}: '{parts[0]}' is named twice")
        image, labels = (root / part for part in parts)
        missing += [part for part, file in zip(parts, (image, labels)) if not file.is_file()]
        name = str(own.with_suffix(""))
        pairs[own] = Pair(image, labels, name.removeprefix("images/").replace("/images/", "/"))
    if not pairs:
        raise DatasetError(f"list {path} names no frames")
    if missing:
        many = f"{len(missing)} file{'s that do' if len(missing) > 1 else ' that does'}"
        raise DatasetError(f"list {path} names {many} not exist: {name_some(missing)}")
    # a/images/0001 and images/a/0001 are two frames.
    count = Counter(pair.name for pair in pairs.values())
    return Pairing(
        [pair if count[pair.name] == 1 else pair._replace(name=str(own)) for own, pair in pairs.items()],
        [],
        [],
    )


def write_list(root: Path, split: str, pairs: Iterable[Pair]) -> None:
    """Write the list of a split; frames without labels are left out.

    Raises:
        DatasetError: a name has a tab or a line's end, or is no UTF-8, so that it cannot be in a list.
        OSError: the list cannot be written.
    """
    lines = []
    for pair in pairs:
        if pair.labels is None:
            continue
        names = [file.relative_to(root).as_posix() for file in (pair.image, pair.labels)]
        for name in names:
            if name.splitlines() != [name] or "\t" in name or printable(name) != name:
                raise DatasetError(
                    f"'{printable(one_line(name))}' cannot be in a list: its name has a tab or a line's end,"
                    " or is no UTF-8; rename it"
                )
        # A folder's name may begin as a comment does.
        lines.append(f"{'./' if names[0].startswith(COMMENT) else ''}{names[0]}\t{names[1]}\n")
    write_atomically(list_file(root, split), "".join(lines).encode())


def find_frames(root: Path) -> dict[str, list[Pair]]:
    """All labelled frames of a folder, by the folder that they are in; '' for `images` and `labels` alone.

    Looks for `images` with `labels`, FOLDER/images with FOLDER/labels, and images/FOLDER with labels/FOLDER;
    frames of the last two are together where FOLDER is the same.

    Raises:
        DatasetError: there are none, or images lack labels.
    """
    if not root.is_dir():
        raise DatasetError(f"folder {root} does not exist")
    candidates = [("", root / "images", root / "labels")]
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folder.name not in ("images", "labels"):
            candidates.append((folder.name, folder / "images", folder / "labels"))
    if (root / "images").is_dir():
        for folder in sorted(path for path in (root / "images").iterdir() if path.is_dir()):
            candidates.append((folder.name, folder, root / "labels" / folder.name))
    found: dict[str, list[Pair]] = {}
    missing: list[str] = []
    for name, images, labels in candidates:
        if not (images.is_dir() and labels.is_dir()):
            continue
        try:
            pairing = pair_files(images, labels)
        except DatasetError:
            continue  # no images: folders alone
        missing += pairing.missing
        if pairing.pairs:
            found[name] = [*found.get(name, ()), *pairing.pairs]
    if missing:
        raise DatasetError("; ".join(missing))
    if not found:
        raise DatasetError(
            f"{root} has no labelled images; it should have images and labels, or FOLDER/images and"
            " FOLDER/labels"
        )
    return found
