"""Count a video's frames with people in them: `python examples/segment_video.py drive.mp4`."""

import sys
from collections.abc import Iterator

import cv2
import numpy as np

import rt_segmentation as rt


def frames(path: str) -> Iterator[np.ndarray]:
    """Read a video's frames as RGB, one at a time."""
    video = cv2.VideoCapture(path)
    while True:
        there, bgr = video.read()
        if not there:
            return
        yield bgr[..., ::-1]


segmenter = rt.Segmenter("enet")
person = segmenter.label_set.names.index("Pedestrian")
results = segmenter(frames(sys.argv[1]))  # an iterator: one frame in memory at a time
with_people = [(result.labels == person).any() for result in results]
print(f"{sum(with_people)} of {len(with_people)} frames show people")
