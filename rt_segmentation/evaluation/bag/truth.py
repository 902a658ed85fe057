"""Ground truth for the frames of a bag: label images of a topic, or of a folder of PNGs named by stamp."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from rt_segmentation.bags.frames import to_labels
from rt_segmentation.bags.reading import Message
from rt_segmentation.data.dataset import read_labels
from rt_segmentation.evaluation.bag.clock import Moment, stamp_of
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.files import files_in

ReadIds = Callable[[], np.ndarray]
"""Gives ids, uint8 (H, W); raises a ValueError where there is no label image."""
NEAR_NS = 2_000_000_000
"""What belongs together is recorded within this time [ns]."""
KEPT_LABELS = 64
"""Number of label messages that wait longer for their image, as those that lie at a bag's begin."""
MAX_LABELS = 512
"""Largest number of label messages that wait for their image: 240 Hz for 2 s."""
PASSING_LABELS = 3
"""So many later labels tell that an image's own will not come: they may come out of order."""


class Truth(Protocol):
    """Finds the label image for an image: the exact one, else the nearest within half a frame's period.

    Labels that are nearer to another image are that one's. Moments are stamps, or recorded times where stamps
    do not serve; `others` are those of the images around the one that is asked for.
    """

    def offer(self, message: Message) -> None:
        """Take a message of the label topic, in the bag's order."""
        ...

    def restart(self, moment_ns: int, recorded_ns: int) -> None:
        """Forget labels of a time that has ended: images have begun anew at this moment."""
        ...

    def is_settled(self, moment_ns: int, others: Collection[int]) -> bool:
        """Whether no later message, of an image or of labels, could change what is found."""
        ...

    def distance(self, moment_ns: int) -> int | None:
        """By how much the nearest label image is later than a moment, however far it is [ns], or None."""
        ...

    def find(self, moment_ns: int, others: Collection[int]) -> ReadIds | None:
        """What reads the ids, or None; nobody else gets labels of a topic then."""
        ...


class NoTruth:
    """A bag without ground truth."""

    def offer(self, message: Message) -> None:
        """There is no label topic."""

    def restart(self, moment_ns: int, recorded_ns: int) -> None:
        """Nothing to forget."""

    def is_settled(self, moment_ns: int, others: Collection[int]) -> bool:
        """Nothing to wait for."""
        return True

    def distance(self, moment_ns: int) -> int | None:
        """There is none."""
        return None

    def find(self, moment_ns: int, others: Collection[int]) -> ReadIds | None:
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
        self._labels: deque[tuple[int, Message]] = deque(maxlen=MAX_LABELS)
        self._last_ns: int | None = None
        self._in_order = True

    def offer(self, message: Message) -> None:
        """See `Truth.offer`."""
        moment_ns = self._moment(message)
        if self._last_ns is not None and moment_ns < self._last_ns:
            self._in_order = False
        self._last_ns = moment_ns
        self._labels.append((moment_ns, message))
        while len(self._labels) > KEPT_LABELS and not _together(
            self._labels[0][1].recorded_ns, message.recorded_ns
        ):
            self._labels.popleft()

    def restart(self, moment_ns: int, recorded_ns: int) -> None:
        """See `Truth.restart`."""
        kept = [
            (moment, message)
            for moment, message in self._labels
            if moment <= moment_ns + NEAR_NS and _together(message.recorded_ns, recorded_ns)
        ]
        self._labels = deque(kept, maxlen=MAX_LABELS)

    def is_settled(self, moment_ns: int, others: Collection[int]) -> bool:
        """See `Truth.is_settled`."""
        moments = [moment for moment, _ in self._labels]
        if moment_ns in moments:
            return True
        # Where labels have come out of order before, an image's own may be the last that is recorded.
        if not self._in_order:
            return False
        # Not by the latest that ever came: one stamp of the future would end all waiting.
        passing = _count_reached(moments, moment_ns + self._half_period_ns)
        return passing >= PASSING_LABELS and all(
            _is_alone(label_ns, moment_ns, others, self._half_period_ns) for label_ns in moments
        )

    def distance(self, moment_ns: int) -> int | None:
        """See `Truth.distance`."""
        return min((moment - moment_ns for moment, _ in self._labels), key=abs, default=None)

    def find(self, moment_ns: int, others: Collection[int]) -> ReadIds | None:
        """See `Truth.find`."""
        own = [
            (abs(label_ns - moment_ns), place)
            for place, (label_ns, _) in enumerate(self._labels)
            if _is_own(label_ns, moment_ns, others, self._half_period_ns)
        ]
        if not own:
            return None
        place = min(own)[1]
        message = self._labels[place][1]
        # Where stamps repeat, the next image has the next labels.
        del self._labels[place]
        return partial(to_labels, message)


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

    def restart(self, moment_ns: int, recorded_ns: int) -> None:
        """Nothing to forget: the files are of all times."""

    def is_settled(self, moment_ns: int, others: Collection[int]) -> bool:
        """All files are known from the start, but not all images."""
        near = self._near(moment_ns)
        return any(label_ns == moment_ns for label_ns, _ in near) or all(
            _is_alone(label_ns, moment_ns, others, self._half_period_ns) for label_ns, _ in near
        )

    def distance(self, moment_ns: int) -> int | None:
        """See `Truth.distance`."""
        place = bisect_left(self._stamps, moment_ns)
        return min((stamp - moment_ns for stamp in self._stamps[max(place - 1, 0) : place + 1]), key=abs)

    def find(self, moment_ns: int, others: Collection[int]) -> ReadIds | None:
        """See `Truth.find`."""
        own = [
            (abs(label_ns - moment_ns), path)
            for label_ns, path in self._near(moment_ns)
            if _is_own(label_ns, moment_ns, others, self._half_period_ns)
        ]
        return partial(read_labels, min(own)[1]) if own else None

    def count(self, first_ns: int, last_ns: int) -> int:
        """How many of the files are from a time to another, with half a period more; all where none are."""
        return len(self._between(first_ns, last_ns)) or len(self._files)

    def _near(self, moment_ns: int) -> list[tuple[int, Path]]:
        return self._between(moment_ns, moment_ns)

    def _between(self, first_ns: int, last_ns: int) -> list[tuple[int, Path]]:
        begin = bisect_left(self._stamps, first_ns - self._half_period_ns)
        end = bisect_right(self._stamps, last_ns + self._half_period_ns)
        return self._files[begin:end]


def _together(one_ns: int, other_ns: int) -> bool:
    return abs(one_ns - other_ns) <= NEAR_NS


def _count_reached(moments: Iterable[int], until_ns: int) -> int:
    """How many are of that time or soon after it."""
    return sum(until_ns <= moment <= until_ns + NEAR_NS for moment in moments)


def _is_own(label_ns: int, image_ns: int, others: Collection[int], half_period_ns: int) -> bool:
    """Whether labels are near to an image, and to no other one nearer."""
    distance = abs(label_ns - image_ns)
    return distance <= half_period_ns and all(abs(label_ns - other) >= distance for other in others)


def _is_alone(label_ns: int, image_ns: int, others: Collection[int], half_period_ns: int) -> bool:
    """Whether no image that is still to come could be nearer to labels than this one, if they are near."""
    late_ns = label_ns - image_ns
    return not 0 < late_ns <= half_period_ns or _count_reached(others, label_ns + late_ns) > 0


def label_files(folder: Path) -> list[tuple[int, Path]]:
    """The PNGs of a folder of labels with their stamps [ns], by stamp.

    Raises:
        EvaluationError: there is no such folder, it has no PNGs, or a name is no stamp.
    """
    files = files_in(folder, (".png",)) if folder.is_dir() else []
    wrong = next((path.name for path in files if not path.stem.isdecimal()), None)
    if not files or wrong is not None:
        found = f"has '{wrong}'" if wrong else "has no PNGs"
        raise EvaluationError(
            f"folder of labels {folder} {found}; it holds label images named by their stamps in ns,"
            " as 1700000000000000000.png"
        )
    return sorted((int(path.stem), path) for path in files)
