"""Labels out to annotation tools and back: label images as files of other programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rt_segmentation.data.exchange import (
    cityscapes_polygons,
    coco,
    cvat,
    cvat_masks,
    label_studio,
    png,
)
from rt_segmentation.data.exchange.frames import ClassNames, ExportOptions, LabelledFrame
from rt_segmentation.labels import LabelSet


@dataclass(frozen=True)
class Format:
    """A format of annotations.

    Attributes:
        write: writes frames of a label set to a path.
        read: reads a path, frame by frame; unknown labels are counted in the names of classes.
        suffixes: that a file may have; empty: it is a folder.
    """

    write: Callable[[Path, Iterable[LabelledFrame], LabelSet, ExportOptions], None]
    read: Callable[[Path, ClassNames], Iterator[LabelledFrame]]
    suffixes: tuple[str, ...] = ()


FORMATS = {
    "cvat": Format(cvat.write, cvat.read, (".xml", ".zip")),
    "cvat-masks": Format(cvat_masks.write, cvat_masks.read, (".zip",)),
    "coco": Format(coco.write, coco.read, (".json",)),
    "label-studio": Format(label_studio.write, label_studio.read, (".json",)),
    "cityscapes": Format(cityscapes_polygons.write, cityscapes_polygons.read),
    "png": Format(png.write, png.read),
}
