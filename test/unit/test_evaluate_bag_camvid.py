"""A bag of real frames scores what the same frames score as a data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to make")
pytest.importorskip("openvino", reason="OpenVINO is not installed: no engine for this test")
pytest.importorskip("torch", reason="torch is not installed: no graph to export")

from rt_segmentation.cli import main

EVERY = 20


def test_a_bag_and_a_data_set_of_the_same_frames_have_the_same_score(
    shared_data: Path, tmp_path: Path
) -> None:
    val = shared_data / "camvid" / "val"
    for kind in ("images", "labels"):
        (tmp_path / "data" / "val" / kind).mkdir(parents=True)
    for image in sorted((val / "images").iterdir())[::EVERY]:
        for kind, name in (("images", image.name), ("labels", f"{image.stem}.png")):
            shutil.copy(val / kind / name, tmp_path / "data" / "val" / kind / name)
    frames = tmp_path / "data" / "val"
    chosen = ["--model", "enet", "--engine", "openvino", "--precision", "fp32"]

    answer = tmp_path / "evaluate.json"
    command = ["evaluate", *chosen, "--dataset", "camvid", "--data-root", str(tmp_path / "data")]
    assert main([*command, "--split", "val", "--json", str(answer)]) == 0
    expected = json.loads(answer.read_text())

    bag, out = str(tmp_path / "bag"), tmp_path / "out"
    assert main(["bag", "make", "--images", f"{frames}/images", "--labels", f"{frames}/labels", bag]) == 0
    topics = ["--image-topic", "/camera/image", "--label-topic", "/camera/label"]
    assert main(["evaluate-bag", bag, *topics, *chosen, "--out", str(out)]) == 0
    (measured,) = json.loads((out / "evaluation.json").read_text())["models"]
    assert expected["frames"] == measured["segmented"] == 6
    assert measured["accuracy"]["mean_iou"] == pytest.approx(expected["mean_iou"], abs=1e-9)
    for name, iou in expected["class_iou"].items():
        assert measured["accuracy"]["class_iou"][name] == (
            pytest.approx(iou, abs=1e-9) if iou is not None else None
        )
