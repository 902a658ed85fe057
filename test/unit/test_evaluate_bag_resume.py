"""An evaluation that goes on counts each frame once, whatever the times at which frames were recorded."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from support.models import shuffled
from support.street_bags import (
    BEGIN_NS,
    PERIOD_NS,
    image,
    settings,
    street,
    street_bag,
    without_timings,
    write_splits,
)

from rt_segmentation.bags.reading import BagReader
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.models import ModelManifest
from rt_segmentation.weights import load_weights, save_model

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


def changed_model(model: ModelManifest, bag: Path) -> None:
    weights = load_weights(model)
    weights["classifier.bias"] = weights["classifier.bias"][::-1].copy()
    save_model(model, weights)


def changed_bag(_: ModelManifest, bag: Path) -> None:
    shutil.rmtree(bag)
    write_splits(bag, [("camera", BEGIN_NS, image(street(0)[0], BEGIN_NS))])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(changed_model, "with models' contents "), (changed_bag, "with bag's bytes ")],
)
@pytest.mark.parametrize("after", [5, FRAMES + 1])
def test_what_has_only_the_name_of_what_was_evaluated_is_refused(
    change: Callable[[ModelManifest, Path], None],
    sentence: str,
    after: int,
    small_model: ModelManifest,
    tmp_path: Path,
) -> None:
    bag = bag_of(tmp_path / "bag", "in pairs")
    model = shuffled(small_model, tmp_path / "model.yaml")
    chosen = settings(model, tmp_path / "out")
    evaluate(bag, chosen, after)
    change(model, bag)
    with pytest.raises(EvaluationError, match=f"0000.json is of an evaluation {sentence}.*--overwrite"):
        evaluate(bag, chosen, resume=True)


def test_a_bag_that_was_evaluated_need_not_be_kept(small_model: ModelManifest, tmp_path: Path) -> None:
    bag, chosen = bag_of(tmp_path / "bag", "in pairs"), settings(small_model, tmp_path / "out")
    before = evaluate(bag, chosen)
    shutil.rmtree(bag)
    assert without_timings(evaluate(bag, chosen, resume=True)) == without_timings(before)


@pytest.mark.parametrize("mode", ["throughput", "realtime"])
def test_what_a_video_lacks_is_told_by_who_goes_on_without_it(
    mode: str, small_model: ModelManifest, tmp_path: Path
) -> None:
    bag = street_bag(tmp_path / "bag", 8)
    chosen = settings(small_model, tmp_path / "out", mode=mode, video=True)
    seen = evaluate(bag, chosen, after=5)["bags"][0]["frames"]
    (video,) = (chosen.out / "videos").iterdir()
    content = video.read_bytes()
    for _ in range(2):
        result = evaluate(bag, replace(chosen, video=False), resume=True)
        assert result["bags"][0]["frames"] == 8 and not result["partial"]
        told = [problem for problem in result["problems"] if "a video cannot" in problem]
        wanted = f"a video cannot be continued: there is none of what comes after frame {seen - 1}"
        assert told == [f"{bag}: {wanted}"]
    assert video.read_bytes() == content

    whole = replace(chosen, out=tmp_path / "whole")
    evaluate(bag, whole)
    problems = evaluate(bag, replace(whole, video=False), resume=True)["problems"]
    assert not any("a video cannot" in text for text in problems)
