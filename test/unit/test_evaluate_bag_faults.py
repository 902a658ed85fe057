"""Bags and disks that are not as they should be: what the result says of them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rosbags.rosbag2 import Writer
from street_bags import BEGIN_NS, IMAGE, PERIOD_NS, TYPES, image, settings, street, write_bag

from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.report.junit import Thresholds, judge
from rt_segmentation.evaluation.bag.report.wording import verdict
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.models import ModelManifest


def evaluate(path: Path, chosen: Settings, **changes: Any) -> dict[str, Any]:
    given = {"stop": threading.Event(), "progress": lambda *_: None, **changes}
    return evaluate_bags([path], chosen, "rt_seg evaluate-bag", **given)


def test_the_images_period_is_theirs_whatever_else_the_bag_holds(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    rgb, labels = street(0)
    stamps = [BEGIN_NS + i * PERIOD_NS for i in range(4)]
    late = BEGIN_NS + 600 * 10**9
    messages = [("camera", stamp, image(rgb, stamp)) for stamp in stamps]
    # Labels two periods away are another frame's; a message after ten minutes is no image.
    messages += [("truth", stamps[-1], image(labels, stamps[-1] + 2 * PERIOD_NS))]
    path = write_bag(tmp_path / "bag", [*messages, ("other", late, image(labels, late))])
    result = evaluate(path, settings(small_model, tmp_path / "out", video=True))
    assert result["models"][0]["accuracy"] is None
    video = cv2.VideoCapture(str(tmp_path / "out" / "videos" / "0000_bag_small.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10, abs=0.2)


def test_a_bag_without_images_has_no_drop_rate(small_model: ModelManifest, tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=8) as writer:
        writer.add_connection("camera", IMAGE, typestore=TYPES)
    chosen = settings(small_model, tmp_path / "out", label_topic=None, mode="realtime")
    result = evaluate(tmp_path / "bag", chosen)
    (model,) = result["models"]
    assert model["drop_rate"] is None and not judge(result, Thresholds(max_drop_rate=0.5), None)
    assert "no frame came" in "".join("".join(clause) for clause in verdict(model, result))
