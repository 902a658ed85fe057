"""Videos at the rates that cameras have, and ones that cannot be written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_segmentation.imaging import video as imaging_video
from rt_segmentation.imaging.video import VideoWriter

PICTURES = 3


@pytest.mark.parametrize(
    ("rate_hz", "written_hz"),
    [
        (0.002, 0.01),
        (29.97, 29.97),
        (61.2345, 61.234),
        (70.123, 70.12),
        (89.991, 89.99),
        (119.88012, 119.88),
        (999.9, 999.9),
        (6600.4, 6600),
        (1e6, 65535),
    ],
)
def test_a_rate_is_the_nearest_that_the_format_holds(
    tmp_path: Path, rate_hz: float, written_hz: float
) -> None:
    if rate_hz > 1000 and cv2.__version__.startswith("4.5."):
        pytest.skip("OpenCV 4.5 writes half as much again for rates above 1 kHz")
    writer = VideoWriter(tmp_path / "v.mp4", rate_hz)
    for value in range(PICTURES):
        writer.write(np.full((48, 64, 3), 40 * value, np.uint8))
    writer.close()

    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(written_hz)
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == PICTURES


def test_a_video_that_could_not_be_opened_is_closed_without_another_error(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "nowhere" / "v.mp4", 10.0)
    with pytest.raises(OSError, match=r"video .*v.mp4 cannot be written"):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()


def test_a_full_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.mp4").write_bytes(b"before")
    writer = VideoWriter(tmp_path / "v.mp4", 10.0)
    writer.write(np.zeros((48, 64, 3), np.uint8))
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(imaging_video, "SPARE_BYTES", 2**62)
    with pytest.raises(OSError, match=r"video .*v.mp4 cannot be written: the disk is full"):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"before"
