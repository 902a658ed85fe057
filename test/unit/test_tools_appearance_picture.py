"""The instrument that shows the worst frames in another light."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation.models import ModelManifest
from tools import appearance_picture
from tools.running import run_tool


def run(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["appearance_picture", *map(str, arguments)])
    run_tool(None, appearance_picture.add_arguments, appearance_picture.main)


def test_the_worst_frame_is_shown(
    small_model: ModelManifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(appearance_picture, "STREETS", 2)
    model, picture = small_model.path, tmp_path / "worst.png"
    run(model, model, "--count", "1", "--engine", "torch", "--out", picture, monkeypatch=monkeypatch)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.endswith("on 2 frames")
    height, width = cv2.imread(str(picture)).shape[:2]
    # The frame, the truth and two masks beside each other: one row, above the legend.
    assert width == 4 * 320 and 180 < height < 2 * 180
    shown = cv2.imread(str(picture))[26:206]
    assert (shown[:, 640:960] == shown[:, 960:]).all()


def test_a_drive_that_is_not_there_is_one_sentence(
    small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "here_1.png"), np.zeros((48, 64), np.uint8))
    data = ("--data-root", tmp_path, "--drive", "nowhere", "--out", tmp_path / "x.png")
    with pytest.raises(SystemExit, match=r"no frame of .*, split val, begins with 'nowhere'"):
        run(small_model.path, small_model.path, *data, monkeypatch=monkeypatch)
