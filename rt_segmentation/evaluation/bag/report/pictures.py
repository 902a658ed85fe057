"""Pictures inside the page, as data URIs, so small that all of them together stay within a limit."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from rt_segmentation.evaluation.bag.result import Evaluation

TOTAL_BYTES = 7_500_000
"""Of all JPEGs; base64 makes 10 MB of them."""
KINDS = ("image", "overlay", "truth")
REDUCTIONS = ((640, 75), (480, 70), (400, 60), (320, 50))
"""Width [px] and JPEG quality, tried in turn for a picture that is too large."""
JPEG_START = b"\xff\xd8\xff"


class Pictures:
    """The pictures of the frames shown in a result.

    Args:
        result: whose models' frames are shown.
        folder: that the paths of the pictures start from.

    Attributes:
        reduced: whether any is smaller than its file.
        missing: paths of files that are not there or no JPEG.
    """

    def __init__(self, result: Evaluation, folder: Path) -> None:
        self._folder = folder
        self._allowance = TOTAL_BYTES // max(sum(1 for _ in _paths(result)), 1)
        self.reduced = False
        self.missing: list[str] = []

    def uri(self, path: str | None) -> str | None:
        """A data URI of a picture; None where there is none, which `missing` then tells."""
        if path is None:
            return None
        try:
            jpeg = (self._folder / path).read_bytes()
        except OSError:
            jpeg = b""
        if not jpeg.startswith(JPEG_START):
            self.missing.append(path)
            return None
        return "data:image/jpeg;base64," + base64.b64encode(self._fit(jpeg)).decode()

    def _fit(self, jpeg: bytes) -> bytes:
        """The file as it is, or reduced to the allowance or as far as the reductions go."""
        if len(jpeg) <= self._allowance:
            return jpeg
        pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            return jpeg
        self.reduced = True
        for width, quality in REDUCTIONS:
            scale = min(width / pixels.shape[1], 1.0)
            smaller = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            jpeg = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if len(jpeg) <= self._allowance:
                break
        return jpeg


def _paths(result: Evaluation) -> Iterator[str]:
    for model in result.models:
        for frame in model.shown:
            yield from (path for kind in KINDS if (path := getattr(frame, kind)) is not None)
