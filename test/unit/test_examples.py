"""The examples run as they stand."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation import cli
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.imaging.video import VideoWriter

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples"


Run = Callable[..., str]


@pytest.fixture()
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example in this process, which has imported PyTorch already; returns what it said."""

    def run_here(example: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [example, *arguments])
        runpy.run_path(str(EXAMPLES / example), run_name="__main__")
        return capsys.readouterr().out

    return run_here


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return StreetScene(7, 160, 120).render(0.0)[0]


def test_segment_image(run: Run, street: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "street.png"), street[..., ::-1])
    said = run("segment_image.py", "street.png", "overlay.png")
    assert "Road" in said and cv2.imread(str(tmp_path / "overlay.png")).shape == street.shape


def test_segment_video(run: Run, street: np.ndarray, tmp_path: Path) -> None:
    video = VideoWriter(tmp_path / "drive.mp4", 10.0)
    for _ in range(3):
        video.write(street)
    video.close()
    said = run("segment_video.py", "drive.mp4")
    assert said.endswith("of 3 frames show people\n")


def test_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: nothing to draw with")
    cells = json.loads((EXAMPLES / "segment.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    monkeypatch.setenv("MPLBACKEND", "Agg")
    exec("\n".join(code), {})
    assert "mean IoU 0." in capsys.readouterr().out


def check_disk(said: str, folder: Path) -> None:
    """Whether the share of the disk that an example said is that of its first image."""
    share = float(said.splitlines()[-1].removeprefix("disk: ").split("%")[0])
    image = cv2.imread(str(folder / "data/val/labels/0.png"), cv2.IMREAD_UNCHANGED)
    assert abs(share / 100 - (image == 1).mean()) < 0.03, said


@pytest.mark.long
@pytest.mark.parametrize("example", ["own_dataset.py", "own_network.py"])
def test_own_dataset_and_own_network(example: str, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="lightning is not installed: no training")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(EXAMPLES / example), "data"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_disk(done.stdout, tmp_path)


def test_own_network_in_this_process(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so its training, which has a process of its own in the example."""
    pytest.importorskip("lightning", reason="lightning is not installed: no training")
    ours, real = [sys.executable, "-m", "rt_segmentation.cli"], subprocess.run
    trained: list[int] = []

    def run_here(command: Sequence[str], cwd: Path | None = None, **options: Any) -> Any:
        if command[:3] != ours:
            return real(command, cwd=cwd, **options)
        assert cwd is not None
        with monkeypatch.context() as patched:
            patched.chdir(cwd)
            trained.append(cli.main(command[3:]))

    monkeypatch.setattr(subprocess, "run", run_here)
    # Set, so that what the example allows is taken back.
    monkeypatch.setenv("RT_SEG_NETWORKS", "")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    try:
        check_disk(run("own_network.py", "data"), tmp_path)
    finally:
        for name in ("own_dataset", "own_network"):
            sys.modules.pop(name, None)
    assert trained == [0]


def test_every_example_is_tested_and_listed() -> None:
    tests = Path(__file__).read_text() + (REPOSITORY / "test/ros/test_example_subscriber.py").read_text()
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb"):
            assert path.name in tests and f"({path.name})" in listed
