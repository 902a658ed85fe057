"""A camera that OpenCV opens, without ROS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2

from rt_segmentation.data.sources import SourceError, SourceImage


class CaptureSource:
    """The images of a camera of this computer, until it gives no more.

    Args:
        device: its number, from 0, or its path, as ``/dev/video0``.

    Attributes:
        rate_hz: that the camera states; 0 if it states none.

    Raises:
        SourceError: it cannot be opened.
    """

    has_labels = False
    camera_height_m: float | None = None

    def __init__(self, device: int | str) -> None:
        self.text = f"camera {device}"
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise SourceError(
                f"{self.text} cannot be opened; give the number or path of a camera that is connected and"
                " that no other program uses"
            )
        self.rate_hz = float(self._capture.get(cv2.CAP_PROP_FPS))

    def __iter__(self) -> Iterator[SourceImage]:
        try:
            for number in itertools.count():
                there, bgr = self._capture.read()
                if not there:
                    return
                yield SourceImage(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), None, f"camera_{number:06d}")
        finally:
            self._capture.release()
