"""All data sets by name, as recipes and the command line open them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.cityscapes import LABEL_SETS as CITYSCAPES_LABEL_SETS
from rt_segmentation.data.cityscapes import Cityscapes
from rt_segmentation.data.dataset import DatasetError, SegmentationDataset
from rt_segmentation.data.folder import Folder
from rt_segmentation.data.street_dataset import TRAINING_SEED, Street
from rt_segmentation.data.sunrgbd import SunRgbd
from rt_segmentation.labels import LabelSet

# Streets that no model is trained on, and some that they are.
STREET_SPLITS: dict[str, dict[str, int]] = {
    "train": {"scenes": 120, "frames_per_scene": 1, "first_seed": TRAINING_SEED},
    "val": {"scenes": 20, "frames_per_scene": 2, "first_seed": 100},
}


@dataclass(frozen=True)
class DatasetKind:
    """How a data set is opened.

    Attributes:
        open: takes root and split (unless `needs_root` is False) and options by name.
        splits: a description for help texts.
        label_sets: it can be opened with, by its option `label_set`; empty without that option.
        any_label_set: its option `label_set` is any set, and must be given.
        needs_root: it lies in a folder.
    """

    open: Callable[..., SegmentationDataset]
    splits: str
    label_sets: tuple[str, ...] = ()
    any_label_set: bool = False
    needs_root: bool = True


def _open_street(split: str = "", **options: int) -> Street:
    if split and split not in STREET_SPLITS:
        raise DatasetError(f"the street has no split '{split}'; there are {', '.join(STREET_SPLITS)}")
    return Street(**{**STREET_SPLITS.get(split, {}), **options})


DATASETS: dict[str, DatasetKind] = {
    "camvid": DatasetKind(CamVid, "train, val, test", ("camvid11", "camvid32")),
    "cityscapes": DatasetKind(
        Cityscapes, "train, val, test; train_extra with annotation=coarse", CITYSCAPES_LABEL_SETS
    ),
    "sunrgbd": DatasetKind(SunRgbd, "train, test"),
    "folder": DatasetKind(Folder, "any folder's name", any_label_set=True),
    "street": DatasetKind(_open_street, ", ".join(STREET_SPLITS), needs_root=False),
}


def open_dataset(
    name: str,
    root: str | Path | None = None,
    split: str = "",
    options: Mapping[str, Any] | None = None,
    complete: bool = True,
) -> SegmentationDataset:
    """Open a data set.

    Args:
        name: one of `DATASETS`.
        root: its folder; the street has none.
        split: as 'train'.
        options: more arguments of its class, as ``{"label_set": "cityscapes34"}``.
        complete: refuse images without labels; False leaves them out.

    Raises:
        DatasetError: unknown name or options, no root, or the data are not as their layout says.
    """
    if name not in DATASETS:
        raise DatasetError(f"unknown data set {name!r}; there are {', '.join(DATASETS)}")
    kind = DATASETS[name]
    given = dict(options or {})
    parameters = inspect.signature(Street if name == "street" else kind.open).parameters
    possible = [p for p in parameters if p not in ("root", "split", "complete")]
    unknown = [option for option in given if option not in possible]
    if unknown:
        raise DatasetError(
            f"data set {name} has no option '{unknown[0]}'; it has {', '.join(possible) or 'none'}"
        )
    if kind.any_label_set and "label_set" not in given:
        raise DatasetError(f"data set {name} needs the option label_set, a name or a YAML file")
    try:
        if not kind.needs_root:
            return kind.open(split, **given)
        if root is None:
            raise DatasetError(f"data set {name} needs its folder; give --data-root")
        return kind.open(root, split, **given, complete=complete)
    except DatasetError:
        raise
    except (TypeError, ValueError) as error:
        raise DatasetError(f"data set {name}: {error}") from error


def assumed(name: str, labels: LabelSet, given: Mapping[str, Any]) -> str:
    """Whose classes a data set's ids are taken for, in a sentence, where the user alone knows; else empty.

    Args:
        name: of the data set.
        labels: the model's.
        given: the user's options of the data set.
    """
    kind = DATASETS.get(name)
    if kind is None or not kind.any_label_set or "label_set" in given:
        return ""
    return (
        f"the ids of data set '{name}' are taken for classes of label set '{labels.name}', the model's;"
        " --option label_set=… names another"
    )


def options_for(name: str, labels: LabelSet) -> dict[str, Any]:
    """The options that open a data set with a model's classes, where it can be; {} where it cannot."""
    kind = DATASETS.get(name)
    if kind is None or not (kind.any_label_set or labels.name in kind.label_sets):
        return {}
    return {"label_set": labels if kind.any_label_set else labels.name}
