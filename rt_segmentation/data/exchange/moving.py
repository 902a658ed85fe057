"""A data set's labels, or a model's, out to a format; a format's labels into a folder of a data set."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from rt_segmentation.data.dataset import FileDataset, SegmentationDataset, name_some
from rt_segmentation.data.exchange import FORMATS
from rt_segmentation.data.exchange.frames import (
    ClassNames,
    ExchangeError,
    ExportOptions,
    LabelledFrame,
    stem_of,
)
from rt_segmentation.files import IMAGE_SUFFIXES, alike, check_file, check_new_folder, new_folder
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.files import read_bytes, shown_size, write_image
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.text import counted, printable


def check_target(kind: str, path: Path, overwrite: bool = False) -> None:
    """Say before the work what stands in a file's way.

    Raises:
        ExchangeError: its suffix is not the format's, or it is there and may not be replaced.
        OSError: a folder of the format is there and not empty, or it cannot be written.
    """
    suffixes = FORMATS[kind].suffixes
    if not suffixes:
        check_new_folder(path)
        return
    if path.suffix.lower() not in suffixes:
        raise ExchangeError(
            f"--out is {printable(path)}; format {kind} is a file that ends with {' or '.join(suffixes)}"
        )
    if path.exists() and (not overwrite or path.is_dir()):
        raise ExchangeError(f"{printable(path)} is there already; give --overwrite, or another --out")
    check_file(path)


def labels_of(dataset: SegmentationDataset) -> Iterator[LabelledFrame]:
    """The labels of a data set's frames, under their images' file names.

    Raises:
        DatasetError: a frame cannot be read.
    """
    for index in range(len(dataset)):
        sample = dataset[index]
        is_file = isinstance(dataset, FileDataset)
        name = dataset.pairs[index].image.name if isinstance(dataset, FileDataset) else sample.name
        yield LabelledFrame(name if is_file else f"{name}.png", sample.labels)


def apart(frames: Iterable[LabelledFrame], path: Path) -> Iterator[LabelledFrame]:
    """Pass frames on whose label files have names of their own.

    Raises:
        ExchangeError: two have one, or there is no frame.
    """
    seen: dict[str, str] = {}
    for frame in frames:
        stem = stem_of(frame.name)
        if stem in seen:
            raise ExchangeError(
                f"{printable(path)}: '{printable(seen[stem])}' and '{printable(frame.name)}' would both have"
                f" the labels {printable(stem)}.png; rename one, or take them one after the other"
            )
        seen[stem] = frame.name
        yield frame
    if not seen:
        raise ExchangeError(f"{printable(path)} has no labelled images")


class Imported(NamedTuple):
    """Numbers of frames that were imported: all, and those of which no pixel is labelled."""

    frames: int
    empty: int


def import_labels(
    kind: str, path: Path, names: ClassNames, out: Path, images: Path | None = None
) -> Imported:
    """Write a format's labels as a folder that the folder data set reads without a split.

    Args:
        kind: one of `FORMATS`.
        path: the file, or folder.
        names: finds the classes.
        out: gets `labels`, and `images` where the images are given; is there whole or not at all.
        images: the folder, with folders in it, where the images are that were labelled; they are copied.

    Returns:
        How many frames there are.

    Raises:
        ExchangeError: the file is wrong, has unknown labels, or images are missing or of another size.
        OSError: `out` is there and not empty, or cannot be written.
    """
    count = empty = 0
    finder = None if images is None else _Images(images)
    missing, wrong = [], []
    with new_folder(out) as folder:
        (folder / "labels").mkdir()
        if finder is not None:
            (folder / "images").mkdir()
        for frame in apart(FORMATS[kind].read(path, names), path):
            count += 1
            stem = stem_of(frame.name)
            if names.is_refused:
                # Only the other unknown labels are looked for.
                continue
            empty += not (frame.labels != IGNORE_ID).any()
            write_image(folder / "labels" / f"{stem}.png", frame.labels)
            image = finder.find(frame.name) if finder is not None else None
            if image is not None:
                shutil.copyfile(image, folder / "images" / f"{stem}{image.suffix}")
                wrong += _other_size(image, frame.labels)
            elif finder is not None:
                missing.append(finder.missing(frame.name))
        names.check(path)
        if wrong:
            number = counted(len(wrong), "image")
            raise ExchangeError(
                f"{printable(path)} labels {number} of another size: {name_some(wrong, '; ')}"
            )
        if missing:
            number = counted(len(missing), "image")
            raise ExchangeError(
                f"folder {printable(images)} lacks {number} that {printable(path)} labels:"
                f" {name_some(missing)}"
            )
    return Imported(count, empty)


def _other_size(image: Path, labels: np.ndarray) -> list[str]:
    """A sentence where an image, as people see it who label it, has another size than its labels."""
    try:
        width, height = shown_size(read_bytes(image))
    except ImageError:
        # Whoever reads the data set hears of it.
        return []
    if labels.shape == (height, width):
        return []
    return [f"{printable(image.name)} is {width}x{height}, its labels {labels.shape[1]}x{labels.shape[0]}"]


class _Images:
    """Finds images by the names in a file of annotations, which may lack folders or the suffix."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ExchangeError(f"--images is {printable(folder)}, which is no folder")
        self._folder = folder
        self._by_name: dict[str, list[Path]] = {}
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file():
                for key in {
                    alike(file.name),
                    alike(file.stem),
                    alike(file.stem.removesuffix("_leftImg8bit")),
                }:
                    self._by_name.setdefault(key, []).append(file)

    def find(self, name: str) -> Path | None:
        """The image, or None where there is none.

        Cameras number their images from 0 each, so the folders must be the same too, as far as both have
        some: the last ones of the annotation's name and of the image's path below the folder.

        Raises:
            ExchangeError: several could be it.
        """
        exact = self._folder / name
        if exact.suffix.lower() in IMAGE_SUFFIXES and exact.is_file():
            return exact
        wanted = [alike(part) for part in PurePosixPath(name).parent.parts][::-1]
        fitting = []
        for file in self._of_last_name(name):
            has = [alike(part) for part in file.relative_to(self._folder).parent.parts][::-1]
            if all(one == other for one, other in zip(wanted, has)):
                fitting.append((min(len(wanted), len(has)), bool(wanted) and has == wanted, file))
        best = max((rank for *rank, _ in fitting), default=None)
        found = [file for *rank, file in fitting if rank == best]
        if len(found) > 1:
            raise ExchangeError(
                f"the image '{printable(name)}' may be any of {name_some([printable(f) for f in found])}"
            )
        return found[0] if found else None

    def missing(self, name: str) -> str:
        """The name of an image that was not found, and those of its name that lie in other folders."""
        others = [printable(file.relative_to(self._folder)) for file in self._of_last_name(name)]
        return printable(name) + (f" ({name_some(others)} is of another folder)" if others else "")

    def _of_last_name(self, name: str) -> list[Path]:
        last = PurePosixPath(name).name
        return self._by_name.get(alike(last)) or self._by_name.get(alike(stem_of(last))) or []


def export_labels(
    kind: str, path: Path, frames: Iterable[LabelledFrame], label_set: LabelSet, options: ExportOptions
) -> None:
    """Write frames in a format.

    Raises:
        ExchangeError: the format cannot hold them.
        OSError: the file cannot be written.
    """
    FORMATS[kind].write(path, apart(frames, path), label_set, options)
