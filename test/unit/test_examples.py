"""The examples run as they stand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.imaging.video import VideoWriter

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"


def run(code: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    command = [sys.executable, *code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return StreetScene(7, 160, 120).render(0.0)[0]


def test_segment_image(street: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), street[..., ::-1])
    said = run([str(EXAMPLES / "segment_image.py"), "street.png", "overlay.png"], tmp_path)
    assert "Road" in said and cv2.imread(str(tmp_path / "overlay.png")).shape == street.shape


def test_segment_video(street: np.ndarray, tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / "drive.mp4", 10.0)
    for _ in range(3):
        video.write(street)
    video.close()
    said = run([str(EXAMPLES / "segment_video.py"), "drive.mp4"], tmp_path)
    assert said.endswith("of 3 frames show people\n")


def test_notebook(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: nothing to draw with")
    cells = json.loads((EXAMPLES / "segment.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert "mean IoU 0." in run(["-c", "\n".join(code)], tmp_path)


@pytest.mark.parametrize(
    "example", [pytest.param("own_dataset.py", marks=pytest.mark.long), "own_network.py"]
)
def test_own_dataset_and_own_network(example: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed: no training")
    said = run([str(EXAMPLES / example), "data"], tmp_path)
    share = float(said.splitlines()[-1].removeprefix("disk: ").split("%")[0])
    image = cv2.imread(str(tmp_path / "data/val/labels/0.png"), cv2.IMREAD_UNCHANGED)
    assert abs(share / 100 - (image == 1).mean()) < 0.03, said


def test_every_example_is_tested_and_listed() -> None:
    tests = Path(__file__).read_text() + (REPOSITORY / "test/ros/test_example_subscriber.py").read_text()
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert path.name in tests and f"({path.name})" in listed
