"""An evaluation that goes on counts each frame once, whatever the times at which frames were recorded."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from support.street_bags import BEGIN_NS, PERIOD_NS, image, settings, street, write_splits

from rt_segmentation.bags.reading import BagReader
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.models import ModelManifest

FRAMES, DAMAGED = 13, 1
HOUR_NS = 3_600_000_000_000


def recorded(number: int, kind: str) -> int:
    """When a frame was recorded [ns]: some together, or the last ones with a clock that was set back."""
    if kind == "in pairs":
        return int(BEGIN_NS + number // 2 * PERIOD_NS)
    return int(BEGIN_NS + number * 10 * PERIOD_NS - (HOUR_NS if number >= 9 else 0))


def bag_of(path: Path, kind: str) -> Path:
    messages = []
    for number in range(FRAMES):
        rgb, labels = street(number % 4)
        stamp = BEGIN_NS + number * PERIOD_NS
        # A frame that cannot be decoded has no mask.
        damaged = {"encoding": "unknown"} if number == DAMAGED else {}
        messages.append(("camera", recorded(number, kind), image(rgb, stamp, **damaged)))
        messages.append(("truth", recorded(number, kind), image(labels, stamp)))
    return write_splits(path, messages)


def evaluate(bag: Path, chosen: Settings, after: int = FRAMES + 1, **changes: Any) -> dict[str, Any]:
    stop = threading.Event()

    def progress(_: int, done: int, __: bool) -> None:
        if done >= after:
            stop.set()

    return evaluate_bags([bag], chosen, "rt_seg evaluate-bag", stop, progress, **changes).to_plain()


def mask_stamps(out: Path) -> list[int]:
    """Of all masks, sorted."""
    with BagReader(out / "masks" / "0000_bag") as reader:
        stamps = [message.content.header.stamp for message in reader.messages({"/small/label"})]
    return sorted(stamp.sec * 10**9 + stamp.nanosec for stamp in stamps)


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rt_segmentation.evaluation.bag.job.engine_rate", lambda *_: 1.0)


def check(result: dict[str, Any], out: Path) -> None:
    """Every frame is counted and has its labels, and every one but the damaged one has its mask."""
    (model,), (bag,) = result["models"], result["bags"]
    assert not result["partial"] and bag["frames"] == model["received"] == FRAMES
    assert model["accuracy"]["frames"] == FRAMES - 1
    stamps = [BEGIN_NS + number * PERIOD_NS for number in range(FRAMES) if number != DAMAGED]
    assert mask_stamps(out) == stamps


@pytest.mark.parametrize(("kind", "after"), [("in pairs", 5), ("clock set back", 10)])
def test_no_frame_is_left_out_or_counted_twice(
    small_model: ModelManifest, tmp_path: Path, kind: str, after: int
) -> None:
    bag = bag_of(tmp_path / "bag", kind)
    chosen = settings(small_model, tmp_path / "out", write_bag=True)

    assert evaluate(bag, chosen, after)["partial"]

    check(evaluate(bag, chosen, resume=True), chosen.out)


def test_masks_that_a_killed_evaluation_did_not_close_are_written_again(
    small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none twice that was closed and not counted."""
    bag = bag_of(tmp_path / "bag", "clock set back")
    chosen = settings(small_model, tmp_path / "out", write_bag=True)
    monkeypatch.setattr("rt_segmentation.evaluation.bag.output.SPLIT_S", 2.5)
    monkeypatch.setattr("rt_segmentation.evaluation.bag.one.SAVE_NS", 4 * 10**9)

    def kill(_: int, done: int, __: bool) -> None:
        # What lies there now is what a kill would have left: frame 3 is counted and its mask is not closed,
        # those of frames 4 and 5 are closed and not counted.
        if done == 8 and not (tmp_path / "left").exists():
            shutil.copytree(chosen.out, tmp_path / "left")

    evaluate_bags([bag], chosen, "rt_seg evaluate-bag", threading.Event(), kill)
    shutil.rmtree(chosen.out)
    os.rename(tmp_path / "left", chosen.out)

    check(evaluate(bag, chosen, resume=True), chosen.out)
