"""`rt_seg dataset stats`: numbers by hand, problems all together."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dataset_layouts import image, write

from rt_segmentation.commands.dataset import main as run
from rt_segmentation.commands.options import OptionError
from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.data.statistics import Statistics, notes, survey
from rt_segmentation.labels import LabelSet, load_label_set

SITE = """
name: site
classes:
  - {id: 0, name: floor, color: [10, 20, 30]}
  - {id: 1, name: rack, color: [200, 0, 0]}
  - {id: 2, name: never, color: [0, 0, 200]}
"""


@pytest.fixture
def labels(tmp_path: Path) -> LabelSet:
    (tmp_path / "site.yaml").write_text(SITE)
    return load_label_set(tmp_path / "site.yaml")


def arguments(tmp_path: Path, **changes: Any) -> argparse.Namespace:
    given = {
        "dataset": "folder",
        "data_root": tmp_path,
        "split": "",
        "option": [f"label_set={tmp_path / 'site.yaml'}"],
        "action": "stats",
        "across": [],
        "out": None,
        "json": None,
    }
    return argparse.Namespace(**{**given, **changes})


def make_frames(root: Path) -> None:
    first, second = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    first[0] = 1
    first[1, 0] = 255
    for name, label in (("a", first), ("b", second)):
        write(root / "labels" / f"{name}.png", label)
        write(root / "images" / f"{name}.png", np.full((2, 4, 3), (0, 255, 51), np.uint8))


def test_frequencies_and_weights_by_hand(labels: LabelSet) -> None:
    statistics = Statistics(labels)
    first, second = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    first[0] = 1
    first[1, 0] = 255
    black = np.zeros((2, 4, 3), np.uint8)
    statistics.add(black, first)
    statistics.add(black + np.uint8(255), second)
    # 11 pixels of class 0, 4 of class 1, none of class 2, 1 unlabelled.
    np.testing.assert_allclose(statistics.frequencies(), [11 / 15, 4 / 15, 0])
    expected = [1 / math.log(1.02 + p) for p in (11 / 15, 4 / 15, 0)]
    np.testing.assert_allclose(statistics.log_weights(), expected)
    # Class 0 is in 16 pixels' frames, class 1 in 8: 11/16 and 4/8, the median between them.
    median = (11 / 16 + 4 / 8) / 2
    np.testing.assert_allclose(
        statistics.median_frequency_weights(), [median / (11 / 16), median / (4 / 8), np.nan]
    )
    np.testing.assert_allclose(statistics.mean(), [0.5] * 3)
    np.testing.assert_allclose(statistics.std(), [0.5] * 3)
    assert statistics.frames_with.tolist() == [2, 1, 0]


def test_json_table_and_picture(tmp_path: Path, labels: LabelSet, capsys: pytest.CaptureFixture[str]) -> None:
    make_frames(tmp_path)
    run(arguments(tmp_path, json=tmp_path / "s.json", out=tmp_path / "pictures" / "samples.png"))
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["frames"] == 2 and content["sizes"] == {"4x2": 2} and content["problems"] == []
    assert content["frequencies"]["rack"] == pytest.approx(4 / 15)
    assert content["median_frequency_weights"]["never"] is None
    assert content["mean"] == pytest.approx([0, 1, 0.2])
    assert content["unlabelled_share"] == 1 / 16
    table = capsys.readouterr().out
    assert "2 frames: 2 of 4x2" in table and "0.73333" in table
    picture = cv2.imread(str(tmp_path / "pictures" / "samples.png"))
    assert picture is not None
    colors = {tuple(c) for c in picture.reshape(-1, 3)[:, ::-1].tolist()}
    assert {(10, 20, 30), (200, 0, 0)} <= colors, "the classes' colours must be in the picture"


def test_all_problems_are_listed_at_once(tmp_path: Path, labels: LabelSet) -> None:
    make_frames(tmp_path)
    for name in ("c", "d", "e"):
        write(tmp_path / "images" / f"{name}.png", image(0))
    write(tmp_path / "labels/c.png", np.full((48, 64), 7, np.uint8))
    write(tmp_path / "labels/d.png", np.zeros((48, 60), np.uint8))
    write(tmp_path / "labels/orphan.png", np.zeros((48, 60), np.uint8))
    with pytest.raises(DatasetError) as caught:
        run(arguments(tmp_path, json=tmp_path / "s.json"))
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 problems:" and len(lines) == 5
    for line, words in zip(
        lines[1:],
        ("lacks 1 label: e.png", "lacks the images of 1 label: orphan.png", "has id 7", "d.png is 60x48"),
    ):
        assert words in line
    content = json.loads((tmp_path / "s.json").read_text())
    assert content["frames"] == 2 and len(content["problems"]) == 4


def test_an_absent_class_and_masks_of_black_and_white_are_told(
    tmp_path: Path, labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    make_frames(tmp_path)
    run(arguments(tmp_path, json=tmp_path / "s.json"))
    said = "no frame has a pixel of 1 class of label set site: never"
    assert f"note: {said}" in capsys.readouterr().out
    assert json.loads((tmp_path / "s.json").read_text())["notes"] == [said]
    for file in (tmp_path / "labels").iterdir():
        write(file, np.array([[0, 0, 255, 255]] * 2, np.uint8))
    run(arguments(tmp_path))
    assert "note: the masks hold only 0 and 255, and 255 is unlabelled: only class 'floor'" in (
        capsys.readouterr().out
    )
    for file in (tmp_path / "labels").iterdir():
        write(file, np.full((2, 4), 255, np.uint8))
    run(arguments(tmp_path))
    assert "note: no frame has a labelled pixel" in capsys.readouterr().out


def test_a_class_that_no_frame_need_have_is_not_missed() -> None:
    counts = Statistics(load_label_set("cityscapes20"))
    counts.add_labels(np.arange(1, 20, dtype=np.uint8).reshape(1, 19))
    assert notes(counts, counts.label_set) == []
    assert len(notes(counts, load_label_set("cityscapes20"), {18})) == 0


def test_many_problems_are_counted(
    tmp_path: Path, labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(23):
        write(tmp_path / "images" / f"{i:02d}.png", image(0))
        write(tmp_path / "labels" / f"{i:02d}.png", np.full((48, 64), 7, np.uint8))
    with pytest.raises(DatasetError, match=r"(?s)^23 problems:.* … and 3 more$"):
        run(arguments(tmp_path, out=tmp_path / "samples.png"))
    assert not (tmp_path / "samples.png").exists()
    assert "nan" not in capsys.readouterr().out


def test_a_wrong_option_is_named(tmp_path: Path) -> None:
    for text in ("label_set", "=3", "a=[1"):
        with pytest.raises(OptionError, match="should be NAME=VALUE"):
            run(arguments(tmp_path, option=[text]))


@pytest.mark.long
def test_camvid_has_the_published_statistics(shared_data: Path) -> None:
    *_, statistics = survey(CamVid(shared_data / "camvid", "train"))
    assert statistics.frames == 367 and statistics.sizes == {(480, 360): 367} and not statistics.problems
    # Those of the images before they became JPEGs.
    np.testing.assert_allclose(statistics.mean(), [0.4119, 0.4251, 0.4327], atol=1e-3)
    np.testing.assert_allclose(statistics.std(), [0.3071, 0.3116, 0.3072], atol=1e-3)
