"""What two splits of a data set have in common: near duplicates, and frames of one drive.

Pictures are compared as gray thumbnails of 32x18, without their brightness and contrast, by correlation. A
perceptual hash of 64 bits tells copies from others as well, but has no measure for two frames of one street
some metres apart; a correlation has. On CamVid, frames of different drives correlate by up to 0.888; a frame
with the nearest other one of its drive by 0.926 (median); an image with itself after JPEG of quality 40, at
half the size, or 25 % brighter, by 0.982 and more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from rt_segmentation.data.drives import GAP_S, series_of, stamp_of

DUPLICATE = 0.98
"""Correlation from which on two pictures are near duplicates."""
ALIKE = 0.92
"""Correlation from which on two pictures are of one drive, or at least of one place."""
SIZE = (32, 18)
FLAT = 1.0
"""Below this standard deviation a thumbnail shows nothing [of 255]."""
MAX_EXAMPLES = 3
_AT_ONCE = 1024


def thumbnail(image: np.ndarray) -> np.ndarray:
    """What is compared of an image uint8 (H, W, 3) RGB: float32 (576,) of length 1; zeros if it is flat."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    if small.std() < FLAT:
        return np.zeros_like(small)
    return np.asarray(small / np.linalg.norm(small))


class Match(NamedTuple):
    """A frame, the frame of the other split that is most like it, and their correlation."""

    name: str
    other: str
    correlation: float


@dataclass
class Split:
    """What is kept of a split's frames.

    Attributes:
        name: of the split.
        frames: their names.
        thumbnails: of the frames that could be read, by their names.
    """

    name: str
    frames: list[str] = field(default_factory=list)
    thumbnails: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, name: str, image: np.ndarray) -> None:
        """Add a frame: uint8 (H, W, 3) RGB."""
        self.frames.append(name)
        self.thumbnails[name] = thumbnail(image)


def nearest(split: Split, other: Split) -> list[Match]:
    """For each frame of a split the most similar one of the other."""
    if not split.thumbnails or not other.thumbnails:
        return []
    names, others = list(split.thumbnails), list(other.thumbnails)
    theirs = np.stack(list(other.thumbnails.values()))
    found = []
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        correlation = np.stack([split.thumbnails[name] for name in part]) @ theirs.T
        best = correlation.argmax(1)
        found += [
            Match(name, others[j], float(row[j])) for name, row, j in zip(part, correlation, best.tolist())
        ]
    return found


def leaks(split: Split, other: Split) -> list[str]:
    """What two splits share that they should not, in sentences.

    Args:
        split: the one that is measured on, as val.
        other: as train.
    """
    found = []
    matches = sorted(nearest(split, other), key=lambda match: -match.correlation)
    copies = [match for match in matches if match.correlation >= DUPLICATE]
    if copies:
        found.append(
            f"{_frames(len(copies), split)} near duplicates in {other.name}, as"
            f" {_examples(f'{m.name} of {m.other} ({m.correlation:.3f})' for m in copies)}"
        )
    alike = [match for match in matches if ALIKE <= match.correlation < DUPLICATE]
    if alike:
        found.append(
            f"{_frames(len(alike), split)} pictures much like them in {other.name}, as of one drive: "
            + _examples(f"{m.name} and {m.other} ({m.correlation:.3f})" for m in alike)
        )
    found += _of_one_series(split, other)
    found += _close_in_time(split, other)
    return found


def _of_one_series(split: Split, other: Split) -> list[str]:
    """Names that count on where those of the other split end, or between them."""
    ours, theirs = _series(split.frames), _series(other.frames)
    shared = sorted(set(ours) & set(theirs))
    # A data set whose frames are all called alike says nothing of drives, unless the numbers lie mixed.
    said = []
    several = len({series_of(name)[0] for name in (*split.frames, *other.frames)}) > 1
    for series in shared:
        mine, its = ours[series], theirs[series]
        between = sum(min(its) < number < max(its) for number in mine)
        if several or between:
            said.append(
                f"'{series}' ({len(mine)} in {split.name}, {len(its)} in {other.name}"
                + (f", {between} of them between those" if between else "")
                + ")"
            )
    if not said:
        return []
    count = sum(len(ours[series]) for series in shared)
    return [
        f"{count} frames of {split.name} have names of a drive that {other.name} has too: {_examples(said)}"
    ]


def _series(names: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name in names:
        series, number = series_of(name)
        if number is not None and stamp_of(name) is None:
            found.setdefault(series, []).append(number)
    return found


def _close_in_time(split: Split, other: Split) -> list[str]:
    """Stamps that are within `GAP_S` of one of the other split."""
    theirs = sorted((s, name) for name in other.frames if (s := stamp_of(name)) is not None)
    ours = [(s, name) for name in split.frames if (s := stamp_of(name)) is not None]
    if not theirs or not ours:
        return []
    times = np.array([stamp for stamp, _ in theirs])
    close = []
    for stamp, name in ours:
        index = int(np.argmin(np.abs(times - stamp)))
        apart_s = abs(times[index] - stamp)
        if apart_s <= GAP_S:
            close.append((apart_s, name, theirs[index][1]))
    if not close:
        return []
    close.sort()
    return [
        f"{len(close)} frames of {split.name} were taken within {GAP_S:g} s of a frame of {other.name}, by"
        f" the stamps in their names: {_examples(f'{a} and {b} ({s:.2f} s)' for s, a, b in close)}"
    ]


def _frames(count: int, split: Split) -> str:
    return f"{count} of {len(split.thumbnails)} frames of {split.name} have"


def _examples(texts: Iterable[str]) -> str:
    named = list(texts)
    rest = len(named) - MAX_EXAMPLES
    return ", ".join(named[:MAX_EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")
