"""Splits as lists: SPLIT.txt beside the images, a line of image and label file for each frame."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from rt_segmentation.data.dataset import DatasetError, Pair, Pairing, name_some, pair_files

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
    pairs: dict[str, Pair] = {}
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
        if parts[0] in pairs:
            raise DatasetError(f"list {path}, line {number}: '{parts[0]}' is named twice")
        image, labels = (root / part for part in parts)
        missing += [part for part, file in zip(parts, (image, labels)) if not file.is_file()]
        name = str(PurePosixPath(parts[0]).with_suffix(""))
        pairs[parts[0]] = Pair(image, labels, name.removeprefix("images/").replace("/images/", "/"))
    if not pairs:
        raise DatasetError(f"list {path} names no frames")
    if missing:
        many = f"{len(missing)} file{'s that do' if len(missing) > 1 else ' that does'}"
        raise DatasetError(f"list {path} names {many} not exist: {name_some(missing)}")
    return Pairing(list(pairs.values()), [], [])


def find_frames(root: Path) -> dict[str, list[Pair]]:
    """All labelled frames of a folder, by the folder that they are in; '' for `images` and `labels` alone.

    Looks for `images` with `labels`, FOLDER/images with FOLDER/labels, and images/FOLDER with labels/FOLDER.

    Raises:
        DatasetError: there are none, or images lack labels.
    """
    if not root.is_dir():
        raise DatasetError(f"folder {root} does not exist")
    candidates = {"": (root / "images", root / "labels")}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folder.name not in ("images", "labels"):
            candidates[folder.name] = folder / "images", folder / "labels"
    if (root / "images").is_dir():
        for folder in sorted(path for path in (root / "images").iterdir() if path.is_dir()):
            candidates[folder.name] = folder, root / "labels" / folder.name
    found, missing = {}, []
    for name, (images, labels) in candidates.items():
        if not (images.is_dir() and labels.is_dir()):
            continue
        try:
            pairing = pair_files(images, labels)
        except DatasetError:
            continue  # no images: folders alone
        missing += pairing.missing
        if pairing.pairs:
            found[name] = pairing.pairs
    if missing:
        raise DatasetError("; ".join(missing))
    if not found:
        raise DatasetError(
            f"{root} has no labelled images; it should have images and labels, or FOLDER/images and"
            " FOLDER/labels"
        )
    return found
