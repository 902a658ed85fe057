"""Bags and disks that are not as they should be: what the result says of them."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rosbags.rosbag2 import StoragePlugin, Writer
from support.models import shuffled
from support.street_bags import (
    BEGIN_NS,
    IMAGE,
    PERIOD_NS,
    TYPES,
    image,
    settings,
    street,
    street_bag,
    without_timings,
    write_bag,
    write_splits,
)

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.recorder import Recorder
from rt_segmentation.evaluation.bag.report import write_report
from rt_segmentation.evaluation.bag.report.junit import Thresholds, check, passed
from rt_segmentation.evaluation.bag.report.wording import recorded_fps, verdict
from rt_segmentation.evaluation.bag.result import from_plain
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging import video
from rt_segmentation.imaging.frame import Region
from rt_segmentation.imaging.video import VideoWriter
from rt_segmentation.models import ModelManifest


def evaluate(path: Path, chosen: Settings, **changes: Any) -> dict[str, Any]:
    given = {"stop": threading.Event(), "progress": lambda *_: None, **changes}
    return evaluate_bags([path], chosen, "rt_seg evaluate-bag", **given).to_plain()


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
    assert recorded_fps(from_plain(result).bags) == pytest.approx(10)


def test_pauses_are_left_out_of_the_recorded_rate(small_model: ModelManifest, tmp_path: Path) -> None:
    """The recorder was paused for ten minutes, and later its clock was set back by an hour."""
    begins = (BEGIN_NS, BEGIN_NS + 600 * 10**9, BEGIN_NS - 3600 * 10**9)
    times = [begin + number * PERIOD_NS for begin in begins for number in range(4)]
    path = write_splits(tmp_path / "bag", [("camera", t, image(street(0)[0], t)) for t in times])
    result = evaluate(path, settings(small_model, tmp_path / "out", label_topic=None))
    assert recorded_fps(from_plain(result).bags) == pytest.approx(10)


def test_what_was_damaged_before_an_interruption_is_told_after_it(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("camera", IMAGE, typestore=TYPES)
        for i in range(40):
            stamp = BEGIN_NS + i * 10 * PERIOD_NS
            data = TYPES.serialize_cdr(image(street(i % 4)[0], stamp), IMAGE)
            writer.write(connection, stamp, b"no image" if i == 1 else data)
    (file,) = (tmp_path / "bag").glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 8 // 10])
    chosen = settings(small_model, tmp_path / "out", label_topic=None)
    whole = evaluate(tmp_path / "bag", replace(chosen, out=tmp_path / "whole"))
    assert "of 40 messages are lost" in whole["problems"][0] and "1 of" in whole["problems"][0]

    stop = threading.Event()
    # At a frame a second: labels of the 2 s before are looked at again, the damaged message is before these.
    partial = evaluate(
        tmp_path / "bag", chosen, stop=stop, progress=lambda _, done, __: stop.set() if done > 5 else None
    )
    assert partial["partial"] and partial["problems"] == []
    assert without_timings(evaluate(tmp_path / "bag", chosen, resume=True)) == without_timings(whole)


def test_images_that_do_not_hold_the_region_cost_no_other_bag(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    small = street_bag(tmp_path / "small", 2)
    # A first image of another size, as of a camera that was set up while the recording began.
    stamps = [BEGIN_NS + i * PERIOD_NS for i in range(3)]
    pixels = [street(0)[0], *[np.zeros((240, 320, 3), np.uint8)] * 2]
    mixed = [("camera", stamp, image(each, stamp)) for stamp, each in zip(stamps, pixels)]
    paths = [small, write_bag(tmp_path / "mixed", mixed)]
    chosen = settings(small_model, tmp_path / "out", roi=Region(100, 0, 80, 60), label_topic=None)

    result = evaluate_bags(paths, chosen, "", threading.Event(), lambda *_: None).to_plain()

    assert [bag["frames"] for bag in result["bags"]] == [0, 3]
    assert "roi is [100, 0, 80, 60]" in result["bags"][0]["problem"]
    assert "the image has 160x120 px" in result["bags"][0]["problem"]
    assert result["models"][0]["segmented"] == 2


def test_masks_that_cannot_be_written_are_no_damage_of_the_bag(
    small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = street_bag(tmp_path / "bag", 4)

    def full(*_: Any) -> None:
        raise BagError("bag masks cannot be written: No space left on device")

    monkeypatch.setattr(BagWriter, "write", full)
    with pytest.raises(EvaluationError, match="No space left on device"):
        evaluate(path, settings(small_model, tmp_path / "out", write_bag=True))


@pytest.mark.parametrize("ends", ["at the first picture", "at the end"])
def test_a_video_that_cannot_be_written_costs_nothing_else(
    ends: str, small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = street_bag(tmp_path / "bag", 4)
    whole = evaluate(path, settings(small_model, tmp_path / "whole"))
    if ends == "at the end":

        def full(self: VideoWriter) -> None:
            raise OSError("video v cannot be written whole; the disk may be full")

        monkeypatch.setattr(VideoWriter, "close", full)
    else:
        monkeypatch.setattr(video, "SPARE_BYTES", 2**62)
    found = evaluate(path, settings(small_model, tmp_path / "out", video=True))
    (problem,) = found["problems"]
    assert problem.startswith(f"{path}: video ") and "the disk " in problem
    assert found["unwritten"] == 1
    assert without_timings({**found, "problems": [], "unwritten": 0}) == without_timings(whole)
    assert not list((tmp_path / "out" / "videos").glob("0*.mp4"))


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("frames", "not all pictures of the worst frames could be written: "),
        ("state", "the state could not be written, --resume does not know all that was done: "),
    ],
)
def test_a_disk_that_takes_no_more_costs_no_number(
    folder: str, sentence: str, small_model: ModelManifest, tmp_path: Path
) -> None:
    # Of 24 s, so that the state is saved twice on the way.
    path = street_bag(tmp_path / "bag", 12, period_ns=20 * PERIOD_NS)
    other = shuffled(small_model, tmp_path / "other.yaml")
    chosen = settings(small_model, tmp_path / "out", models=(str(small_model.path), str(other.path)))
    whole = evaluate(path, replace(chosen, out=tmp_path / "whole"))

    def spoil(_: int, frames: int, __: bool) -> None:
        if frames == 1 and (chosen.out / folder).is_dir():
            shutil.rmtree(chosen.out / folder)
            (chosen.out / folder).write_bytes(b"")

    found = evaluate(path, chosen, progress=spoil)
    (problem,) = found["problems"]
    assert problem.startswith(f"{path}: {sentence}")
    assert found["unwritten"] == 1
    assert without_timings({**found, "problems": [], "unwritten": 0}) == without_timings(whole)


def test_a_page_that_cannot_be_written_does_not_take_the_text_with_it(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    result = evaluate(street_bag(tmp_path / "bag", 2), settings(small_model, tmp_path / "out"))
    (tmp_path / "report" / "index.html").mkdir(parents=True)
    with pytest.raises(OSError, match=r"index\.html"):
        write_report(from_plain(result), tmp_path / "report", tmp_path / "out")
    assert "small" in (tmp_path / "report" / "report.md").read_text()


def test_a_model_that_is_held_up_by_counting_is_told_in_real_time(
    small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = street_bag(tmp_path / "bag", 8, period_ns=PERIOD_NS // 2)
    chosen = settings(small_model, tmp_path / "out", mode="realtime")
    assert not any("held the model up" in problem for problem in evaluate(path, chosen)["problems"])
    add = Recorder.add

    def slowly(*arguments: Any) -> None:
        time.sleep(0.1)
        add(*arguments)

    monkeypatch.setattr(Recorder, "add", slowly)
    monkeypatch.setattr("rt_segmentation.evaluation.bag.realtime.MASKS_AHEAD", 1)
    problems = evaluate(path, replace(chosen, out=tmp_path / "slow"))["problems"]
    assert any("counting and writing the masks of small held the model up" in text for text in problems)


def test_a_pause_of_hours_is_not_waited_for(
    small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a recorder that was paused, or of a clock that was set by decades."""
    monkeypatch.setattr("rt_segmentation.evaluation.bag.realtime.PAUSE_S", 0.5)
    hours_ns = 100 * 3600 * 10**9
    times = [BEGIN_NS, BEGIN_NS + PERIOD_NS, BEGIN_NS + hours_ns, BEGIN_NS + hours_ns + PERIOD_NS]
    path = write_bag(tmp_path / "bag", [("camera", t, image(street(0)[0], t)) for t in times])
    chosen = settings(small_model, tmp_path / "out", label_topic=None, mode="realtime", rate=2.0)
    result = evaluate(path, chosen)
    (note,) = result["notes"]
    assert note.endswith("at most: 4 days, 3:59:59 of the bag's time are left out")
    (model,) = result["models"]
    # Each side of the pause has masks, whose latencies know nothing of it.
    assert model["received"] == 4 and model["segmented"] >= 2
    assert model["latency_ms"]["max"] < 3600e3


def test_a_clock_that_is_set_back_delays_no_mask(small_model: ModelManifest, tmp_path: Path) -> None:
    """Latencies know nothing of the hour."""
    begins = (BEGIN_NS, BEGIN_NS - 3600 * 10**9)
    times = [begin + number * PERIOD_NS for begin in begins for number in range(4)]
    path = write_splits(tmp_path / "bag", [("camera", t, image(street(0)[0], t)) for t in times])
    chosen = settings(small_model, tmp_path / "out", label_topic=None, mode="realtime")
    result = evaluate(path, chosen)
    (model,) = result["models"]
    assert model["received"] == 8 and result["notes"] == []
    assert model["latency_ms"]["max"] < 3600e3


def test_a_bag_without_images_has_no_drop_rate(small_model: ModelManifest, tmp_path: Path) -> None:
    with Writer(tmp_path / "bag", version=8) as writer:
        writer.add_connection("camera", IMAGE, typestore=TYPES)
    chosen = settings(small_model, tmp_path / "out", label_topic=None, mode="realtime")
    result = from_plain(evaluate(tmp_path / "bag", chosen))
    (model,) = result.models
    assert model.drop_rate is None and not passed(check(result, Thresholds(max_drop_rate=0.5)))
    assert "no frame came" in "".join("".join(clause) for clause in verdict(model, result))
