"""Images in memory, and the errors that they are refused with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from rt_segmentation.imaging.errors import ImageError

REASONS = {"truncated", "bad_step", "bad_size", "unknown_encoding", "undecodable"}


def random_bytes(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).tobytes()


@contextmanager
def refused(reason: str, *words: str) -> Iterator[None]:
    """Expects an ImageError of this reason, whose one sentence holds these words."""
    with pytest.raises(ImageError) as caught:
        yield
    sentence = str(caught.value)
    assert caught.value.reason == reason
    assert sentence.endswith(".") and ". " not in sentence
    assert [each for each in words if each not in sentence] == [], sentence


def smooth_rgb(width: int = 64, height: int = 48) -> npt.NDArray[np.uint8]:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.stack([230 * x, 200 * y + 20, 250 - 200 * x * y], -1).astype(np.uint8)
