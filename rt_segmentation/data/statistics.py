"""What is in a data set: class frequencies, the weights made of them, colours, sizes, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt_segmentation.data.dataset import DatasetError, SegmentationDataset, name_some
from rt_segmentation.labels import IGNORE_ID, LabelSet
from rt_segmentation.text import counted

WEIGHT_C = 1.02
"""c of the ENet paper, Section 5.2."""


class ClassCounts:
    """How often each of C classes occurs, and the class weights made of that.

    Attributes:
        pixels: by class, int64 (C,).
        frames_with: frames in which a class occurs, int64 (C,).
        pixels_around: all pixels of these frames, int64 (C,).
        unlabelled: pixels without a class.
    """

    def __init__(self, classes: int) -> None:
        self.pixels = np.zeros(classes, np.int64)
        self.frames_with = np.zeros(classes, np.int64)
        self.pixels_around = np.zeros(classes, np.int64)
        self.unlabelled = 0

    def add_labels(self, labels: np.ndarray) -> None:
        """Count a frame's labels, uint8 (H, W)."""
        counts = np.bincount(labels.ravel(), minlength=IGNORE_ID + 1)
        classes = counts[: len(self.pixels)]
        self.pixels += classes
        self.frames_with += classes > 0
        self.pixels_around += np.where(classes > 0, labels.size, 0)
        self.unlabelled += int(counts[len(self.pixels) :].sum())

    def add_counts(self, other: ClassCounts) -> None:
        """Add the counts of other frames."""
        self.pixels += other.pixels
        self.frames_with += other.frames_with
        self.pixels_around += other.pixels_around
        self.unlabelled += other.unlabelled

    def frequencies(self) -> np.ndarray:
        """Share of each class in the labelled pixels, float64 (C,); NaN without any."""
        total = self.pixels.sum()
        return self.pixels / total if total else np.full(len(self.pixels), np.nan)

    def log_weights(self, c: float = WEIGHT_C) -> np.ndarray:
        """Class weights 1 / ln(c + frequency), float64 (C,): ENet paper, Section 5.2, and LinkNet's."""
        return np.asarray(1 / np.log(c + self.frequencies()))

    def median_frequency_weights(self) -> np.ndarray:
        """Class weights median / frequency, float64 (C,); NaN for absent classes.

        The frequency of a class is its pixels over all pixels of the frames in which it occurs; the median is
        over the classes that occur (Eigen and Fergus, 2015; used for SegNet).
        """
        present = self.pixels > 0
        frequency = np.full(len(self.pixels), np.nan)
        frequency[present] = self.pixels[present] / self.pixels_around[present]
        return np.asarray(np.nanmedian(frequency) / frequency) if present.any() else frequency


def notes(counts: ClassCounts, labels: LabelSet, ignored: Collection[int] = ()) -> list[str]:
    """What is odd about a data set though no frame of it is wrong, in sentences.

    Args:
        counts: of all its frames.
        labels: its classes.
        ignored: classes that no frame need have, beside those of category 'void'.
    """
    found = []
    present = np.flatnonzero(counts.pixels).tolist()
    expected = set(range(len(labels.names))) - labels.void_ids - set(ignored)
    if present == [0] and counts.unlabelled and len(labels.names) > 1:
        found.append(
            f"the masks hold only 0 and 255, and 255 is unlabelled: only class '{labels.names[0]}' is there;"
            " in masks of black and white write the class's id for 255"
        )
    elif not present:
        found.append("no frame has a labelled pixel")
    absent = [labels.names[i] for i in sorted(expected.difference(present))]
    if present and absent:
        found.append(
            f"no frame has a pixel of {counted(len(absent), 'class', 'classes')} of label set {labels.name}:"
            f" {name_some(absent)}"
        )
    return found


@dataclass
class Statistics(ClassCounts):
    """Sums over frames; memory does not grow with them, but for the problems.

    Attributes:
        label_set: the classes.
        frames: frames without problems, which are all that is counted.
        sizes: frames by (width, height).
        problems: a sentence for each frame or group of files that is wrong.
        ignored: classes that no frame need have.
    """

    label_set: LabelSet
    frames: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    ignored: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        super().__init__(len(self.label_set.classes))
        self._sums = np.zeros((2, 3))

    def add(self, image: np.ndarray, labels: np.ndarray) -> None:
        """Count a frame: uint8 (H, W, 3) RGB and uint8 (H, W)."""
        self.add_labels(labels)
        self.frames += 1
        self.sizes[labels.shape[1], labels.shape[0]] += 1
        values = np.arange(256) / 255
        for channel in range(3):
            histogram = np.bincount(image[..., channel].ravel(), minlength=256)
            self._sums[:, channel] += histogram @ values, histogram @ values**2

    def mean(self) -> np.ndarray:
        """Mean of R, G, B in [0, 1] over all pixels, float64 (3,)."""
        return np.asarray(self._sums[0] / self._pixel_count())

    def std(self) -> np.ndarray:
        """Standard deviation of R, G, B in [0, 1] over all pixels, float64 (3,)."""
        return np.asarray(np.sqrt(np.maximum(self._sums[1] / self._pixel_count() - self.mean() ** 2, 0)))

    def notes(self) -> list[str]:
        """What is odd though no frame is wrong, in sentences."""
        return notes(self, self.label_set, self.ignored)

    def as_dict(self) -> dict[str, Any]:
        """Everything by name, of types that JSON has; NaN for what is unknown."""
        names = self.label_set.names

        def by_name(values: np.ndarray) -> dict[str, Any]:
            return dict(zip(names, values.tolist()))

        return {
            "label_set": self.label_set.name,
            "frames": self.frames,
            "sizes": {f"{w}x{h}": count for (w, h), count in sorted(self.sizes.items())},
            "pixels": by_name(self.pixels),
            "frames_with": by_name(self.frames_with),
            "frequencies": by_name(self.frequencies()),
            "log_weights": by_name(self.log_weights()),
            "median_frequency_weights": by_name(self.median_frequency_weights()),
            "unlabelled_share": self.unlabelled / self._pixel_count(),
            "mean": self.mean().tolist(),
            "std": self.std().tolist(),
            "problems": self.problems,
            "notes": self.notes(),
        }

    def _pixel_count(self) -> float:
        return float(self.pixels.sum() + self.unlabelled) or float("nan")


def survey(
    dataset: SegmentationDataset, on_frame: Callable[[str, np.ndarray], None] | None = None
) -> Iterator[Statistics]:
    """Read every frame and count; what is wrong is collected, not raised.

    Args:
        dataset: to be read.
        on_frame: called with the name and the image, uint8 (H, W, 3) RGB, of each frame that could be read.

    Yields:
        The same, growing statistics before the first frame and after each.
    """
    statistics = Statistics(dataset.label_set, ignored=dataset.ignored_ids)
    statistics.problems.extend(getattr(dataset, "unpaired", ()))
    yield statistics
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
        except DatasetError as error:
            statistics.problems.append(str(error))
        else:
            statistics.add(sample.image, sample.labels)
            if on_frame is not None:
                on_frame(sample.name, sample.image)
        yield statistics
