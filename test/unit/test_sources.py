"""Images of a folder and their labels."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.dataset_layouts import image, write

from rt_segmentation.data.sources import FolderSource


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("edge", range(60, 70))
def test_labels_of_smaller_images_lie_on_what_they_label(tmp_path: Path, edge: int, upright: bool) -> None:
    if edge % 4 == 2 and cv2.__version__.startswith("4.5."):
        pytest.skip("of two labels that are as near OpenCV 4.5 takes the other one")
    labels = np.zeros((120, 160), np.uint8)
    labels[:, edge:] = 1
    if upright:
        labels = np.ascontiguousarray(labels.T)
    write(tmp_path / "images" / "0.png", cv2.cvtColor(labels * 255, cv2.COLOR_GRAY2BGR))
    write(tmp_path / "labels" / "0.png", labels)
    for factor in (4, 5):
        width = labels.shape[1] // factor
        (found,) = FolderSource(tmp_path / "images", tmp_path / "labels", width=width)
        assert found.labels is not None
        np.testing.assert_array_equal(found.labels, found.rgb[..., 0] >= 128)


def test_a_pipe_among_the_labels_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / "images" / name, image(0))
    write(tmp_path / "labels" / "a.png", np.zeros((48, 64), np.uint8))
    pipe = tmp_path / "labels" / "b.png"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        # Ends a read of it, if there is one.
        writing = pool.submit(lambda: pipe.write_bytes(b""))
        found = [source.name for source in FolderSource(tmp_path / "images", tmp_path / "labels")]
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        writing.result()
        os.close(reading)
    assert found == ["a.png"]
    assert f"skipped 'b.png': there is no label image {pipe}" in caplog.text
