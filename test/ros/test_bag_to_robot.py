"""From a robot's bag to a better model on the robot: all steps one after the other, to a mask over DDS."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")
pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from support.node_under_test import RELIABLE, TORCH, Feeder, NodeUnderTest, offline
from support.street_bags import street

from rt_segmentation.cli import main
from rt_segmentation.data.dataset import read_labels, read_rgb
from rt_segmentation.imaging.pictures import write_picture
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelManifest, find_model, read_manifest
from rt_segmentation.ros.messages import image_message
from rt_segmentation.weights import load_weights

ENGINE = ["--engine", "torch", "--precision", "fp32"]
CLASSES = ("road", "building", "SKY", "kerb")
"""Of the robot's owner: three names are the old model's, and `kerb` is what that calls Pavement."""
FRAMES = 12


def street_frames(folder: Path) -> None:
    """Frames of the synthetic street in `images`, and CamVid's classes in `labels`."""
    for number in range(FRAMES):
        rgb, labels = street(number)
        write_picture(folder / "images" / f"{number:03d}.png", rgb)
        write_picture(folder / "labels" / f"{number:03d}.png", labels)


def camvid_frames(camvid: Path, folder: Path) -> None:
    """The same of frames of CamVid, far apart."""
    every = sorted((camvid / "images").iterdir())
    for image in every[:: max(1, len(every) // FRAMES)][:FRAMES]:
        shutil.copy(image, folder / "images" / image.name)
        shutil.copy(camvid / "labels" / f"{image.stem}.png", folder / "labels")


def label(folder: Path, truth: Path) -> None:
    """Labels in the robot's classes for a sample's images: where a person would work."""
    table = np.full(256, 255, np.uint8)
    names = [name.lower() for name in load_label_set("camvid11").names]
    for i, name in enumerate(("road", "building", "sky", "pavement")):
        table[names.index(name)] = i
    every = sorted((truth / "labels").iterdir())
    (folder / "labels").mkdir()
    with (folder / "frames.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = Path(row["file"]).with_suffix(".png").name
            write_picture(folder / "labels" / name, table[read_labels(every[int(row["number"])])])


@pytest.mark.long
@pytest.mark.parametrize("data", ["street", "camvid"])
def test_from_a_bag_to_a_mask_of_the_robot(
    data: str,
    small_model: ModelManifest,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spawn: Callable[..., Any],
    observer: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RT_SEG_MODELS", str(tmp_path / "installed"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drives = {"night": Path("night_frames"), "tuesday": Path("tuesday_frames")}
    for split, (bag, frames) in zip(("train", "val"), drives.items()):
        for kind in ("images", "labels"):
            (frames / kind).mkdir(parents=True)
        if data == "camvid":
            camvid_frames(request.getfixturevalue("shared_data") / "camvid" / split, frames)
        else:
            street_frames(frames)
        assert not main(["bag", "make", bag, "--images", str(frames / "images"), "--compressed", "jpeg"])
    # What is trained from: of CamVid's frames a model that knows them well.
    old = small_model if data == "street" else find_model("enet")

    sample = ["bag", "sample", "--rate", "0", "--apart", "0.1", "--count"]
    assert not main([*sample, "6", "night", "--model", str(old.path), "--out", "site/train", *ENGINE])
    assert not main([*sample, "4", "tuesday", "--strategy", "uniform", "--out", "site/val"])
    for split, frames in zip(("train", "val"), drives.values()):
        label(tmp_path / "site" / split, frames)
    lines = [f"  - {{id: {i}, name: {n}, color: [{60 * i}, 0, 90]}}\n" for i, n in enumerate(CLASSES)]
    Path("site_labels.yaml").write_text("name: site\nclasses:\n" + "".join(lines))
    stats = ["dataset", "stats", "--dataset", "folder", "--option", "label_set=site_labels.yaml"]
    assert not main([*stats, "--data-root", "site", "--split", "train"])

    own = {
        "base": "own_data",
        "name": "site",
        "source": "a test",
        "network": "enet",
        "label_set": "site_labels.yaml",
        "augmentation": {"width": 64, "height": 64},
        "width": 160,
        "height": 120,
        "epochs": 2,
        "batch_size": 2,
        "data_license": "none",
    }
    Path("own.yaml").write_text(yaml.safe_dump(own))
    capsys.readouterr()
    train = ["train", "own.yaml", "--data-root", "site", "--init-from", str(old.path), "--workers", "0"]
    assert not main([*train, "--precision", "fp32"])
    said = capsys.readouterr().out
    assert "but for those of road, building, SKY, which have their names there; kerb is new" in said
    new = read_manifest(tmp_path / "runs" / "site" / "site.yaml")
    before, after = load_weights(old), load_weights(new)
    statistics = [key for key in before if key.endswith(("running_mean", "running_var"))]
    # But for the last bits, which an average of equal numbers may change.
    assert statistics and all(np.allclose(before[key], after[key], 1e-5, 1e-7) for key in statistics)
    assert any(not np.array_equal(before[key], after[key]) for key in before if key not in statistics)

    folder = ["--dataset", "folder", "--data-root", "site"]
    assert not main(["compare", str(old.path), str(new.path), *folder, "--json", "c.json", *ENGINE])
    result = json.loads(Path("c.json").read_text())
    assert [entry["name"] for entry in result["classes"]] == list(CLASSES)
    assert result["labelled_frames"] == 4 and result["mean_iou"]["new"] > 0
    if data == "camvid":
        # What the old model knew by name is still there after so short a training.
        assert {c["name"]: c["new"] for c in result["classes"]}["road"] > 0.7

    assert not main(["models", "install", str(new.path), *ENGINE])
    # The robot's node finds it by its name, and nothing else.
    named = replace(new, path=Path("site"))
    node = NodeUnderTest(spawn, observer, "/robot", named, **TORCH)
    masks = observer.subscribe(Image, node.topic("label"), RELIABLE)
    camera = Feeder(node)
    image = image_message(Header(), read_rgb(next((tmp_path / "site/val/images").iterdir())), "rgb8")
    mask = camera.segment(image, masks)
    expected = offline(Segmenter.build(find_model("site"), "torch", "fp32"), image).labels
    assert np.array_equal(mask, expected) and mask.shape == (image.height, image.width)
    assert mask.max() < len(CLASSES) and len(np.unique(mask)) > 1
    assert node.values()["model"] == "site"
