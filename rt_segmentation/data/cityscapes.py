"""Cityscapes (Cordts et al., 2016) in its official folder layout, with fine or coarse labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rt_segmentation.data.dataset import (
    DatasetError,
    FileDataset,
    IdMap,
    Pair,
    Pairing,
    pair_files,
    read_stored,
)
from rt_segmentation.files import files_in
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.labels import IGNORE_ID, LabelClass, LabelSet, load_label_set

SPLITS = {"fine": ("train", "val", "test"), "coarse": ("train", "train_extra", "val")}
LABEL_SETS = (
    "cityscapes19",
    "cityscapes19_void",
    "cityscapes20",
    "cityscapes34",
    "cityscapes_categories7",
)
IMAGE_ENDING = "_leftImg8bit"
INSTANCE_FACTOR = 1000
"""An instance's id is its label id times this, plus its number; smaller ids are label ids."""


class Cityscapes(FileDataset):
    """Cityscapes: `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png` and `gtFine` or `gtCoarse` beside it.

    Args:
        root: folder that has `leftImg8bit`.
        split: fine 'train', 'val', 'test' (whose labels are not public: all pixels are 255); coarse 'train',
            'train_extra', 'val'.
        label_set: 'cityscapes19', the train ids; 'cityscapes20' and 'cityscapes19_void', these with one more
            output that no labelled pixel has; 'cityscapes34', the label ids as in the files, void included;
            'cityscapes_categories7'.
        annotation: 'fine' or 'coarse'.
        complete: refuse images without labels; False leaves them out.
        image_bits: how many bits 16-bit images use, or 'auto'.

    Raises:
        DatasetError: the arguments or folders are wrong, or labels are missing; reading a frame raises it
            for a bad file or id.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        label_set: str = "cityscapes19",
        annotation: str = "fine",
        complete: bool = True,
        image_bits: str | int = AUTO,
    ) -> None:
        if annotation not in SPLITS:
            raise DatasetError(f"Cityscapes' annotation is 'fine' or 'coarse', not '{annotation}'")
        if split not in SPLITS[annotation]:
            raise DatasetError(
                f"Cityscapes has no {annotation} split '{split}'; there are {', '.join(SPLITS[annotation])}"
            )
        if label_set not in LABEL_SETS:
            raise DatasetError(
                f"Cityscapes has no label set '{label_set}'; there are {', '.join(LABEL_SETS)}"
            )
        labels = load_label_set(label_set)
        pairing = _pairs(Path(root), split, "gtFine" if annotation == "fine" else "gtCoarse")
        super().__init__(labels, pairing, IdMap(classes_by_label_id(labels)), complete, image_bits)

    @property
    def ignored_ids(self) -> frozenset[int]:
        """Classes that the official evaluation leaves out: all that are none of the 19 or 7."""
        evaluated = {c.name for name in ("cityscapes19", "cityscapes_categories7") for c in _classes(name)}
        return frozenset(c.id for c in self.label_set.classes if c.name not in evaluated)

    @property
    def has_instances(self) -> bool:
        """Whether instance ids lie beside all labels."""
        return all(pair.labels is not None and _instance_path(pair.labels).is_file() for pair in self.pairs)

    def instances(self, index: int) -> np.ndarray:
        """Instance ids of a frame, uint16 (H, W): label id x 1000 + number, or the label id alone.

        Raises:
            DatasetError: there are none, or the file is not 16-bit gray with such ids.
        """
        path = self.pairs[index].labels
        if path is None:
            raise DatasetError(f"{self.pairs[index].image} has no instance ids: its split has no labels")
        path = _instance_path(path)
        ids = read_stored(path)
        if ids.ndim != 2 or ids.dtype not in (np.uint16, np.uint8):
            raise DatasetError(f"{path} has shape {ids.shape} of {ids.dtype}; instance ids are 16-bit gray")
        if ids.max() >= INSTANCE_FACTOR * len(_classes("cityscapes34")):
            raise DatasetError(f"{path} has instance id {ids.max()}, of no label")
        return ids.astype(np.uint16)


def classes_by_label_id(labels: LabelSet) -> dict[int, int]:
    """The class of each of the 34 label ids in one of `LABEL_SETS`, 255 where it has none."""
    by_name = {c.name: c.id for c in labels.classes if c.category != "void" or labels.name == "cityscapes34"}
    if labels.name != "cityscapes_categories7":
        return {c.id: by_name.get(c.name, IGNORE_ID) for c in _classes("cityscapes34")}
    # As the official evaluation: of a category's classes those count that are among the 19.
    evaluated = {c.name for c in _classes("cityscapes19")}
    return {c.id: by_name[c.category] if c.name in evaluated else IGNORE_ID for c in _classes("cityscapes34")}


def label_ids_by_class(labels: LabelSet) -> np.ndarray:
    """The label id of each class, uint8 (256,); 0 (unlabeled) for 255 and all that has none.

    Raises:
        DatasetError: the label set has other classes than Cityscapes' labels.
    """
    by_name = {c.name: c.id for c in _classes("cityscapes34")}
    unknown = [c.name for c in labels.classes if c.name not in by_name]
    if unknown:
        raise DatasetError(
            f"label set {labels.name} has classes that are no labels of Cityscapes: {', '.join(unknown)}"
        )
    table = np.zeros(256, np.uint8)
    for c in labels.classes:
        table[c.id] = by_name[c.name]
    return table


def _instance_path(labels: Path) -> Path:
    return labels.with_name(labels.name.replace("_labelIds", "_instanceIds"))


def _classes(name: str) -> tuple[LabelClass, ...]:
    return load_label_set(name).classes


def _pairs(root: Path, split: str, annotation: str) -> Pairing:
    images = root / "leftImg8bit" / split
    if not images.is_dir():
        raise DatasetError(f"Cityscapes' folder {images} does not exist")
    cities = sorted(p for p in images.iterdir() if p.is_dir())
    result = Pairing([], [], [])
    for city in cities:
        if split == "test":
            result.pairs.extend(
                Pair(file, None, file.stem.removesuffix(IMAGE_ENDING))
                for file in files_in(city, (".png",))
                if file.stem.endswith(IMAGE_ENDING)
            )
            continue
        labels = root / annotation / split / city.name
        if not labels.is_dir():
            result.missing.append(f"folder {labels} does not exist")
            continue
        found = pair_files(city, labels, IMAGE_ENDING, f"_{annotation}_labelIds.png")
        result.pairs.extend(found.pairs)
        result.missing.extend(found.missing)
        result.orphans.extend(found.orphans)
    if not result.pairs and not result.missing:
        raise DatasetError(f"Cityscapes' folder {images} has no images CITY/*{IMAGE_ENDING}.png")
    return result
