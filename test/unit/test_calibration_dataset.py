"""Frames of a data set to calibrate on: opened with the options that it needs, and none without effect."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_segmentation.cli import build_parser, main
from rt_segmentation.commands import export as command
from rt_segmentation.models import find_model

HEIGHT, WIDTH = 48, 64
UNLABELLED = (9, 9, 8)


@pytest.fixture()
def twelve_bits(tmp_path: Path) -> Path:
    """A folder with a dark image of 12 bits, and a coloured mask that has a colour of no class."""
    for name in ("images", "labels"):
        (tmp_path / "train" / name).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train/images/a.png"), np.full((HEIGHT, WIDTH, 3), 160, np.uint16))
    cv2.imwrite(str(tmp_path / "train/labels/a.png"), np.full((HEIGHT, WIDTH, 3), UNLABELLED[::-1], np.uint8))
    return tmp_path


def frames(root: Path, *options: str) -> list[np.ndarray]:
    given = ["export", "--model", "enet", "--calibrate", "folder", "--data-root", str(root), *options]
    return command._calibration_frames(find_model("enet"), build_parser().parse_args(given), WIDTH, HEIGHT)[0]


def test_it_is_opened_with_its_options(twelve_bits: Path) -> None:
    assert len(frames(twelve_bits, "--option", "ignore=[[9,9,8]]")) == 1


def test_the_bits_of_its_images_are_those_that_are_given(twelve_bits: Path) -> None:
    ignore = ("--option", "ignore=[[9,9,8]]")
    (given,) = frames(twelve_bits, *ignore, "--image-bits", "12")
    assert (given == 160 >> 4).all()
    (other,) = frames(twelve_bits, *ignore, "--image-bits", "10")
    assert (other == 160 >> 2).all()


def test_options_of_no_data_set_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", "enet", "--option", "ignore=[0]"]) == 2
    assert "--option is of the data set of --calibrate, which is not given" in capsys.readouterr().err
