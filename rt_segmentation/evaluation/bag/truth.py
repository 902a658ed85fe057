"""Ground truth for the frames of a bag: label images of a topic, or of a folder of PNGs named by stamp."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from rt_segmentation.bags.frames import to_labels
from rt_segmentation.bags.reading import Message
from rt_segmentation.data.dataset import read_labels
from rt_segmentation.evaluation.bag.clock import Moment, stamp_of
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.files import files_in
from rt_segmentation.groups import Grouping
from rt_segmentation.labels import IGNORE_ID

KEPT_LABELS = 64
"""Largest number of label messages that wait for their image."""


class Truth(Protocol):
    """Finds the label image for a moment: the exact one, else the nearest within half a frame's period.

    Moments are stamps, or recorded times where stamps do not serve.
    """

    def offer(self, message: Message) -> None:
        """Take a message of the label topic, in the bag's order."""
        ...

    def is_settled(self, moment_ns: int) -> bool:
        """Whether no later message could be a better match."""
        ...

    def distance(self, moment_ns: int) -> int | None:
        """By how much the nearest label image is later than a moment, however far it is [ns], or None."""
        ...

    def find(self, moment_ns: int) -> np.ndarray | None:
        """Ids, uint8 (H, W), or None.

        Raises:
            ValueError: there is one, and it is no label image.
        """
        ...


class NoTruth:
    """A bag without ground truth."""

    def offer(self, message: Message) -> None:
        """There is no label topic."""

    def is_settled(self, moment_ns: int) -> bool:
        """Nothing to wait for."""
        return True

    def distance(self, moment_ns: int) -> int | None:
        """There is none."""
        return None

    def find(self, moment_ns: int) -> np.ndarray | None:
        """There is none."""
        return None


class TopicTruth:
    """Label images of a topic, each for one image.

    Args:
        half_period_ns: how far the nearest may be [ns].
        moment: what images and labels are paired by.
    """

    def __init__(self, half_period_ns: int, moment: Moment = stamp_of) -> None:
        self._half_period_ns, self._moment = half_period_ns, moment
        self._labels: deque[tuple[int, Message]] = deque(maxlen=KEPT_LABELS)
        self._latest_ns = -1

    def offer(self, message: Message) -> None:
        """See `Truth.offer`."""
        moment_ns = self._moment(message)
        self._labels.append((moment_ns, message))
        self._latest_ns = max(self._latest_ns, moment_ns)

    def is_settled(self, moment_ns: int) -> bool:
        """See `Truth.is_settled`."""
        exact = any(moment == moment_ns for moment, _ in self._labels)
        return exact or self._latest_ns >= moment_ns + self._half_period_ns

    def distance(self, moment_ns: int) -> int | None:
        """See `Truth.distance`."""
        return min((moment - moment_ns for moment, _ in self._labels), key=abs, default=None)

    def find(self, moment_ns: int) -> np.ndarray | None:
        """See `Truth.find`."""
        distance = self.distance(moment_ns)
        if distance is None or abs(distance) > self._half_period_ns:
            return None
        place = [moment for moment, _ in self._labels].index(moment_ns + distance)
        message = self._labels[place][1]
        # Where stamps repeat, the next image has the next labels.
        del self._labels[place]
        return to_labels(message)


class FolderTruth:
    """PNGs of class ids, named by their stamps in ns: ``1700000000000000000.png``.

    Args:
        folder: of the PNGs.
        half_period_ns: how far the nearest may be [ns].

    Raises:
        EvaluationError: as `label_files`.
    """

    def __init__(self, folder: Path, half_period_ns: int) -> None:
        self._half_period_ns = half_period_ns
        self._files = label_files(folder)
        self._stamps = [stamp for stamp, _ in self._files]

    def offer(self, message: Message) -> None:
        """There is no label topic."""

    def is_settled(self, moment_ns: int) -> bool:
        """All files are known from the start."""
        return True

    def distance(self, moment_ns: int) -> int | None:
        """See `Truth.distance`."""
        return self._nearest(moment_ns)[0] - moment_ns

    def find(self, moment_ns: int) -> np.ndarray | None:
        """See `Truth.find`."""
        stamp, path = self._nearest(moment_ns)
        return read_labels(path) if abs(stamp - moment_ns) <= self._half_period_ns else None

    def count(self, first_ns: int, last_ns: int) -> int:
        """How many of the files are from a time to another, with half a period more; all where none are."""
        begin = bisect_left(self._stamps, first_ns - self._half_period_ns)
        end = bisect_right(self._stamps, last_ns + self._half_period_ns)
        return (end - begin) or len(self._files)

    def _nearest(self, moment_ns: int) -> tuple[int, Path]:
        place = bisect_left(self._stamps, moment_ns)
        near = self._files[max(place - 1, 0) : place + 1]
        return min(near, key=lambda pair: abs(pair[0] - moment_ns))


def label_files(folder: Path) -> list[tuple[int, Path]]:
    """The PNGs of a folder of labels with their stamps [ns], by stamp.

    Raises:
        EvaluationError: there is no such folder, it has no PNGs, or a name is no stamp.
    """
    files = files_in(folder, (".png",)) if folder.is_dir() else []
    wrong = next((path.name for path in files if not path.stem.isdigit()), None)
    if not files or wrong is not None:
        found = f"has '{wrong}'" if wrong else "has no PNGs"
        raise EvaluationError(
            f"folder of labels {folder} {found}; it holds label images named by their stamps in ns,"
            " as 1700000000000000000.png"
        )
    return sorted((int(path.stem), path) for path in files)


class IdTable:
    """Makes class ids of stored ids: what is no class is unlabelled (255).

    Args:
        num_classes: ids below it are classes.
        void_ids: ids that are unlabelled all the same.
        groups: what the classes become.
    """

    def __init__(
        self, num_classes: int, void_ids: Collection[int] = (), groups: Grouping | None = None
    ) -> None:
        self._table = np.full(256, IGNORE_ID, np.uint8)
        ids = np.arange(256, dtype=np.uint8) if groups is None else groups.lookup
        self._table[:num_classes] = ids[:num_classes]
        self._table[list(void_ids)] = IGNORE_ID

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Class ids, uint8 (H, W)."""
        return np.asarray(cv2.LUT(ids, self._table))
