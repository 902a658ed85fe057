"""What a data set is to training and evaluation: images with label images, by index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.files import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from rt_segmentation.files import FilesByName, alike, files_in, other_files, spread
from rt_segmentation.imaging import files as image_files
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.files import may_be_deep, read_bytes, read_frame, unusable
from rt_segmentation.imaging.label_images import decode_ids, decode_stored, ids_of
from rt_segmentation.imaging.levels import AUTO, Levels
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.text import counted

LOOKED_AT = 8
"""Number of images, evenly spread, that decide which values of 16-bit images are black and white."""
MAX_NAMED = 20
"""Number of problems of a kind that are named; the rest are counted."""


class DatasetError(RtSegmentationError, ValueError):
    """A data set that is not as its layout says; the message names the folder or file and what is wrong."""


class Sample(NamedTuple):
    """One frame: image uint8 (H, W, 3) RGB, labels uint8 (H, W) with 255 = unlabelled, and its name."""

    image: np.ndarray
    labels: np.ndarray
    name: str


class SegmentationDataset(Protocol):
    """The interface all data sets share."""

    label_set: LabelSet

    @property
    def ignored_ids(self) -> frozenset[int]:
        """Classes that evaluation leaves out, as if they were unlabelled."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def read_rgb(path: Path, levels: Levels | None = None) -> np.ndarray:
    """Read an image file as uint8 (H, W, 3) RGB.

    Args:
        path: of the file.
        levels: as for `imaging.files.read_rgb`.

    Raises:
        DatasetError: the file is missing, not an image, or truncated.
    """
    try:
        return image_files.read_rgb(path, levels)
    except ImageError as error:
        raise _unusable(path, error) from error


def levels_of(files: Sequence[Path], bits: str | int = AUTO) -> Levels:
    """Which values of 16-bit images are black and white, decided once for many files.

    A look at `LOOKED_AT` of them decides, so that each frame's pixels are the same in whatever order, and by
    whichever process, the files are read.

    Args:
        files: images; those that cannot be read decide nothing.
        bits: as for `Levels`.

    Raises:
        DatasetError: `bits` is none that `Levels` knows.
    """
    try:
        levels = Levels(bits)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    if bits != AUTO:
        return levels
    frames = []
    for file in spread(files, LOOKED_AT):
        # The first bytes tell; only images that may be deep are decoded for this.
        if may_be_deep(file):
            with suppress(ImageError):
                frames.append(read_frame(file))
    return levels.settle(frames)


def read_stored(path: Path) -> np.ndarray:
    """Read a label file as it is: ids uint8 or uint16 (H, W), or colours uint8 (H, W, 3), palettes resolved.

    Raises:
        DatasetError: the file is missing, no PNG or lossless WebP, or truncated.
    """
    try:
        return decode_stored(read_bytes(path))
    except ImageError as error:
        raise _unusable(path, error) from error


def read_labels(path: Path) -> np.ndarray:
    """Read a label file as uint8 (H, W), ids unchanged; of 1 to 16 bits, or colours with R = G = B = id.

    Of a palette, the ids are the colours' numbers, whatever the colours are.

    Raises:
        DatasetError: the file is missing, no label image, or has ids above 255.
    """
    try:
        return decode_ids(read_bytes(path))
    except ImageError as error:
        raise _unusable(path, error) from error


def as_ids(stored: np.ndarray, path: Path) -> np.ndarray:
    """What `read_stored` read, as ids uint8 (H, W); raises as `read_labels`."""
    try:
        return ids_of(stored)
    except ImageError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: ImageError) -> DatasetError:
    return DatasetError(unusable(path, error))


def name_some(names: Sequence[str], separator: str = ", ") -> str:
    """Join names; of more than `MAX_NAMED` the rest are counted."""
    rest = len(names) - MAX_NAMED
    return separator.join(names[:MAX_NAMED]) + (f" … and {rest} more" if rest > 0 else "")


class IdMap:
    """What the ids of 8-bit label files mean; called with a file, it returns a class per pixel.

    Args:
        classes: class by the file's id.
        ignored: ids that become 255, unlabelled.
        ignorable: whether the user can add to them, by an option `ignore`.
    """

    def __init__(
        self, classes: Mapping[int, int], ignored: Iterable[int] = (), ignorable: bool = False
    ) -> None:
        self._ignorable = ignorable
        self._classes = np.full(256, IGNORE_ID, np.uint8)
        self._unknown = np.ones(256, np.uint8)
        for file_id, class_id in (*classes.items(), *((i, IGNORE_ID) for i in ignored)):
            self._classes[file_id] = class_id
            self._unknown[file_id] = 0

    def __call__(self, path: Path) -> np.ndarray:
        """Classes, uint8 (H, W).

        Raises:
            DatasetError: the file cannot be read, or has ids that mean nothing; all are named.
        """
        return self.convert(read_labels(path), path)

    def convert(self, ids: np.ndarray, path: Path) -> np.ndarray:
        """Classes of the ids read from a file, uint8 (H, W); raises as when called."""
        if cv2.countNonZero(cv2.LUT(ids, self._unknown)):
            counts = np.bincount(ids.ravel(), minlength=256)
            wrong = [f"{i} ({counts[i]} pixels)" for i in np.flatnonzero(counts * self._unknown)]
            known = _ranges(np.flatnonzero(self._unknown == 0).tolist())
            first = int(np.flatnonzero(counts * self._unknown)[0])
            hint = ignore_hint(str(first), f"[{first}]") if self._ignorable else ""
            raise DatasetError(f"{path} has id {name_some(wrong)}; its ids are {known}{hint}")
        return np.asarray(cv2.LUT(ids, self._classes))


class ColorMap:
    """What the colours of label pictures mean; called with a file, it returns a class per pixel.

    Args:
        classes: class, or 255 for unlabelled, by (R, G, B).
        ignorable: as for `IdMap`.
    """

    def __init__(self, classes: Mapping[tuple[int, int, int], int], ignorable: bool = False) -> None:
        self._ignorable = ignorable
        keys = np.array([(r << 16) + (g << 8) + b for r, g, b in classes], np.int32)
        order = np.argsort(keys)
        self._keys = keys[order]
        self._classes = np.array(list(classes.values()), np.uint8)[order]

    def __call__(self, path: Path) -> np.ndarray:
        """Classes, uint8 (H, W).

        Raises:
            DatasetError: the file cannot be read, or has colours of no class; they are counted.
        """
        stored = read_stored(path)
        if stored.ndim == 2:
            stored = cv2.cvtColor(as_ids(stored, path), cv2.COLOR_GRAY2RGB)
        return self.convert(stored, path)

    def convert(self, colors: np.ndarray, path: Path) -> np.ndarray:
        """Classes of the colours read from a file, uint8 (H, W); raises as when called."""
        rgb = colors.astype(np.int32)
        keys = (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]
        index = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        unknown = self._keys[index] != keys
        if unknown.any():
            colors, counts = np.unique(keys[unknown], return_counts=True)
            named = [f"({key >> 16}, {key >> 8 & 255}, {key & 255})" for key in colors.tolist()]
            wrong = [f"{name} ({count} pixels)" for name, count in zip(named, counts.tolist())]
            # Ids that were saved with the colours' three channels.
            gray = (rgb[..., 0] == rgb[..., 1]) & (rgb[..., 1] == rgb[..., 2])
            hint = "; if R = G = B is the id, save the masks with one channel" if gray.all() else ""
            # A black one may be of a frame without any label.
            if self._ignorable and not (gray.all() and rgb.any()):
                hint += ignore_hint(named[0], f"[[{named[0][1:-1].replace(' ', '')}]]")
            raise DatasetError(
                f"{path} has {counted(len(wrong), 'colour')} of no class: {name_some(wrong)}{hint}"
            )
        return self._classes[index]


def ignore_hint(what: str, value: str) -> str:
    """What to do where an id or a colour is unlabelled, as the end of a sentence."""
    return f"; where {what} is unlabelled, give the option ignore={value}"


class Pair(NamedTuple):
    """An image file and its label file; None where the data set publishes no labels."""

    image: Path
    labels: Path | None
    name: str


class Pairing(NamedTuple):
    """Pairs sorted by name, and a sentence for each group of files without a partner.

    Attributes:
        missing: images lack labels: a data set refuses to open.
        orphans: labels lack images: harmless, told by a survey of the data.
    """

    pairs: list[Pair]
    missing: list[str]
    orphans: list[str]


def pair_files(images: Path, labels: Path, image_ending: str = "", label_ending: str = ".png") -> Pairing:
    """Pair image files with label files of the same name before an ending.

    Args:
        images: folder.
        labels: folder.
        image_ending: what an image's name without its suffix ends with, as '_leftImg8bit'.
        label_ending: what a label file's name ends with, as '_gtFine_labelIds.png'; in a folder without any
            PNG as '_gtFine_labelIds.webp'.

    Raises:
        DatasetError: a folder is missing, or there are no images.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise DatasetError(f"folder {folder} does not exist")
    files = [file for file in files_in(images) if file.stem.endswith(image_ending)]
    if not files:
        wanted = f" *{image_ending}" if image_ending else ""
        raise DatasetError(f"folder {images} has no images{wanted} ({', '.join(IMAGE_SUFFIXES)})")
    names = [p.stem[: len(p.stem) - len(image_ending)] for p in files]
    suffix = label_ending[label_ending.rindex(".") :]
    found = files_in(labels, (suffix,))
    # As a whole folder: a lossless WebP beside a PNG would be a second label of one image.
    if not found and suffix == ".png" and (found := files_in(labels, (".webp",))):
        label_ending, suffix = label_ending.removesuffix(suffix) + ".webp", ".webp"
    label_files = [f for f in found if alike(f.name).endswith(label_ending)]
    by_name, left = FilesByName(label_files), dict.fromkeys(label_files)
    pairs, missing, shared = [], [], []
    for image, name in zip(files, names):
        label = by_name.find(name + label_ending)
        if label is None:
            missing.append(name + label_ending)
        elif label not in left:
            shared.append(image.name)
        else:
            del left[label]
            pairs.append(Pair(image, label, name))
    orphans = [file.name for file in left]
    problems = []
    if missing:
        # What may have been meant: of another ending, or of another kind.
        there = sorted([*orphans, *other_files(labels, (suffix,))])
        instead = f"; it has {', '.join(there[:3])}{' …' if there[3:] else ''}" if there else ""
        lacking = counted(len(missing), "label")
        problems.append(f"folder {labels} lacks {lacking}: {name_some(missing)}{instead}")
    if shared:
        several = counted(len(shared), "image")
        problems.append(
            f"folder {images} has {several} whose labels are another image's of the same name:"
            f" {name_some(shared)}"
        )
    unseen = f"folder {images} lacks the images of {counted(len(orphans), 'label')}: {name_some(orphans)}"
    return Pairing(pairs, problems, [unseen] if orphans else [])


class FileDataset:
    """Base of the data sets that are files: pairs, and a function that reads a label file.

    Args:
        label_set: of the classes that `read_classes` gives.
        pairing: as found in the folders.
        read_classes: reads a label file as classes, uint8 (H, W); raises DatasetError.
        complete: refuse a data set in which images lack labels; False leaves these images out.
        image_bits: how many bits 16-bit images use, or 'auto': then some of the images decide, for all.

    Raises:
        DatasetError: images lack labels, or `image_bits` is wrong.
    """

    def __init__(
        self,
        label_set: LabelSet,
        pairing: Pairing,
        read_classes: Callable[[Path], np.ndarray],
        complete: bool = True,
        image_bits: str | int = AUTO,
    ) -> None:
        if complete and pairing.missing:
            raise DatasetError("; ".join(pairing.missing))
        self.label_set = label_set
        self.pairs = pairing.pairs
        self.unpaired = (*pairing.missing, *pairing.orphans)
        self._read_classes = read_classes
        self._levels = levels_of([pair.image for pair in self.pairs], image_bits)

    @property
    def ignored_ids(self) -> frozenset[int]:
        """Classes that evaluation leaves out, as if they were unlabelled: those of category 'void'."""
        return self.label_set.void_ids

    @property
    def has_labels(self) -> bool:
        """Whether its frames have labels; without, all pixels are 255."""
        return any(pair.labels is not None for pair in self.pairs)

    def names(self) -> list[str]:
        """Of all frames; none is read for it."""
        return [pair.name for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read a frame.

        Raises:
            DatasetError: a file is unreadable or wrong; all that is wrong with the frame is named.
        """
        image_path, label_path, name = self.pairs[index]
        problems: list[str] = []
        image = _read(lambda path: read_rgb(path, self._levels), image_path, problems)
        labels = None
        if label_path is not None:
            labels = _read(self._read_classes, label_path, problems)
        elif image is not None:
            labels = np.full(image.shape[:2], IGNORE_ID, np.uint8)
        if image is not None and labels is not None:
            if image.shape[:2] == labels.shape:
                return Sample(image, labels, name)
            problems.append(
                f"{label_path} is {labels.shape[1]}x{labels.shape[0]} (width x height),"
                f" its image {image.shape[1]}x{image.shape[0]}"
            )
        raise DatasetError("; ".join(problems))


def _read(reader: Callable[[Path], np.ndarray], path: Path, problems: list[str]) -> np.ndarray | None:
    try:
        return reader(path)
    except DatasetError as error:
        problems.append(str(error))
        return None


def _ranges(ids: list[int]) -> str:
    parts: list[list[int]] = []
    for i in ids:
        if parts and parts[-1][-1] == i - 1:
            parts[-1] = [parts[-1][0], i]
        else:
            parts.append([i, i])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in parts)
