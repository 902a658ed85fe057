"""A stream's state in words and numbers, as /diagnostics carries it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.context import Context
from rclpy.node import Node
from std_msgs.msg import Header

from rt_segmentation.labels import load_label_set
from rt_segmentation.ros.camera import MAX_FAILURES, Camera
from rt_segmentation.ros.diagnostics import (
    Limits,
    array_message,
    drop_ratio,
    problems,
    stamp_problem,
    status_message,
)
from rt_segmentation.ros.trouble_log import TroubleLog
from rt_segmentation.runtime.statistics import Percentiles, Snapshot, StreamStatistics

LIMITS = Limits(max_latency_ms=200.0, min_output_hz=5.0, max_drop_ratio=0.5, stale_after_s=2.0)
BEFORE = Snapshot(100, 90, {"replaced": 10}, 0, 10.0, 9.0, {}, 0.1)
NOW = Snapshot(
    received=110,
    published=99,
    dropped={"replaced": 11},
    lost=0,
    input_hz=10.0,
    output_hz=9.0,
    stages={"latency": Percentiles(50.0, 80.0, 90.0), "inference": Percentiles(20.0, 30.0, 40.0)},
    since_input_s=0.1,
)


class Images(NamedTuple):
    """A subscription that nothing comes on."""

    subscribed_s: float = 60.0
    topic: str = "/image"

    def why_silent(self) -> str:
        return "nobody publishes it"


def test_a_healthy_stream_has_no_problems() -> None:
    assert problems(NOW, BEFORE, Images(), LIMITS) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"since_input_s": None}, "no image has come on /image yet: nobody publishes it"),
        ({"since_input_s": 2.5}, "no image on /image for 2.5 s: nobody publishes it"),
        ({"stages": {"latency": Percentiles(150.0, 201.0, 900.0)}}, "latency p95 is 201 ms, above 200"),
        ({"output_hz": 4.0}, "output is 4.0 Hz, below 5"),
        ({"dropped": {"replaced": 24}, "published": 96}, "70% of the images were dropped, above 50%"),
        (
            {"lost": 2},
            "2 of 12 images on /image were lost on their way: with Fast DDS the camera's process needs"
            " config/fastdds.xml",
        ),
        ({"dropped": {"replaced": 10, "truncated": 1}}, "1 image dropped: truncated"),
        ({"dropped": {"truncated": 2}}, "2 images dropped: truncated"),
    ],
)
def test_each_problem_is_one_sentence(change: dict[str, object], sentence: str) -> None:
    assert problems(replace(NOW, **change), BEFORE, Images(), LIMITS) == [sentence]  # type: ignore[arg-type]


def test_what_is_lost_counts_among_what_was_dropped() -> None:
    # Of 10 that met their end and 30 that were lost on their way, 31 are not segmented.
    found = problems(replace(NOW, lost=30), BEFORE, Images(), LIMITS)
    assert len(found) == 2 and found[1] == "78% of the images were dropped, above 50%"


@pytest.mark.parametrize(("received", "lost"), [(110, 1), (101, 1), (130, 3), (100, 0)])
def test_few_lost_images_are_no_problem(received: int, lost: int) -> None:
    now = replace(NOW, received=received, lost=lost)
    assert problems(now, BEFORE, Images(), LIMITS) == []


DAY_NS = 24 * 3600 * 10**9
NOON_NS = 1_700_000_000 * 10**9


@pytest.mark.parametrize(
    ("stamp_ns", "now_ns", "sim_time", "sentence"),
    [
        (NOON_NS - 10**7, NOON_NS, False, ""),
        (NOON_NS + 10**7, NOON_NS, True, ""),
        (10**9, 2 * 10**9, True, ""),
        (0, NOON_NS, False, "the camera leaves the stamps of its images at 0"),
        (NOON_NS, 0, True, "use_sim_time is true, and no time has come on /clock"),
        # Since the device was switched on.
        (10**11, NOON_NS, False, "stamps are 1699999900.0 s behind the node's clock (use_sim_time is false)"),
        (NOON_NS + DAY_NS, NOON_NS, False, "stamps are 86400.0 s ahead of the node's clock"),
        (NOON_NS, 10**9, True, "stamps are 1699999999.0 s ahead of /clock, which use_sim_time follows"),
    ],
)
def test_a_stamp_that_tells_no_latency_says_why(
    stamp_ns: int, now_ns: int, sim_time: bool, sentence: str
) -> None:
    problem = stamp_problem(stamp_ns, now_ns, sim_time)
    assert sentence in problem
    assert bool(problem) == bool(sentence)


def test_a_new_subscription_is_given_time() -> None:
    silent = replace(NOW, since_input_s=600.0)
    assert problems(silent, BEFORE, Images(1.9), LIMITS) == []
    assert problems(silent, BEFORE, Images(2.1), LIMITS) == [
        "no image on /image for 600.0 s: nobody publishes it"
    ]
    assert problems(replace(NOW, since_input_s=None), BEFORE, Images(1.9), LIMITS) == []


def test_a_rate_is_judged_when_frames_have_come_for_a_window() -> None:
    slow = replace(NOW, output_hz=4.0)
    assert problems(replace(slow, is_young=True), BEFORE, Images(), LIMITS) == []
    assert problems(slow, BEFORE, Images(), LIMITS) == ["output is 4.0 Hz, below 5"]


@pytest.fixture
def camera(context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Camera]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    node = Node("segmentation_node", context=context)
    yield Camera(node, "", {"image_transport": "raw"}.__getitem__)
    node.destroy_node()


def test_a_cameras_rates_begin_anew_when_its_masks_are_wanted_again(camera: Camera) -> None:
    now = [100.0]
    camera.statistics = StreamStatistics(clock=lambda: now[0])
    for end in (lambda: camera.watch(False), camera.stop):
        now[0] += 60.0
        assert not camera.statistics.snapshot().is_young
        camera.watch(True)
        assert camera.statistics.snapshot().is_young
        # One that goes on does not.
        for _ in range(60):
            now[0] += 0.1
            camera.statistics.frame_received()
            camera.watch(True)
        assert not camera.statistics.snapshot().is_young
        end()


def test_each_kind_of_failure_since_the_last_report_is_in_it_once(camera: Camera) -> None:
    camera.configure(load_label_set("camvid11"))
    assert camera.report(LIMITS, wanted=True).trouble == []
    for why in ("no luck at 3", "no luck at 4", "no memory"):
        camera.fails(why)
    assert camera.report(LIMITS, wanted=True).trouble == ["no luck at 3", "no memory"]
    assert camera.report(LIMITS, wanted=True).trouble == []
    # Nobody is told where nobody listens, nor later.
    camera.fails("no luck")
    assert camera.report(LIMITS, wanted=False).trouble == camera.report(LIMITS, wanted=True).trouble == []
    for letter in "abcdefghijkl":
        camera.fails(letter)
    assert len(camera.report(LIMITS, wanted=True).trouble) == MAX_FAILURES
    camera.release()


def test_limits_of_zero_never_warn() -> None:
    limits = Limits(max_latency_ms=0.0, min_output_hz=0.0, max_drop_ratio=1.0, stale_after_s=2.0)
    slow = replace(NOW, output_hz=0.1, stages={"latency": Percentiles(1e6, 1e6, 1e6)})
    assert problems(slow, BEFORE, Images(), limits) == []
    # Frames that came before and are dropped now.
    assert problems(replace(slow, dropped={"replaced": 99}), BEFORE, Images(), limits) == []


def test_old_problems_are_not_told_again() -> None:
    late = replace(NOW, dropped={"truncated": 3})
    assert problems(late, late, Images(), LIMITS) == []
    assert drop_ratio(late, late) == 0.0
    assert drop_ratio(NOW, BEFORE) == pytest.approx(0.1)


def test_status_has_level_sentence_and_every_number() -> None:
    good = status_message("/node: segmentation", "x86_64 CPU", NOW, {"engine": "torch"}, [])
    assert (good.level, good.name, good.hardware_id) == (
        DiagnosticStatus.OK,
        "/node: segmentation",
        "x86_64 CPU",
    )
    values = {pair.key: pair.value for pair in good.values}
    assert values == {
        "engine": "torch",
        "frames received": "110",
        "masks published": "99",
        "messages lost by the middleware": "0",
        "frames dropped": "11",
        "frames dropped: replaced": "11",
        "input rate [Hz]": "10.00",
        "output rate [Hz]": "9.00",
        "latency p50 [ms]": "50.00",
        "latency p95 [ms]": "80.00",
        "latency max [ms]": "90.00",
        "inference p50 [ms]": "20.00",
        "inference p95 [ms]": "30.00",
        "inference max [ms]": "40.00",
    }
    bad = status_message("/node: segmentation", "", NOW, {}, ["too slow", "too late"])
    assert (bad.level, bad.message) == (DiagnosticStatus.WARN, "too slow; too late")


def test_message_says_what_the_node_does() -> None:
    facts = {"state": "active"}
    assert status_message("n", "", NOW, facts, []).message == "segmenting at 9.0 Hz"
    for state in ("unconfigured", "inactive", "active, nobody listens"):
        assert status_message("n", "", NOW, {"state": state}, []).message == state


class Lines:
    """A logger whose clock the test sets."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now_s = 0.0

    def warning(self, text: str) -> None:
        self.lines.append(f"W {text}")

    def info(self, text: str) -> None:
        self.lines.append(f"I {text}")


def test_a_trouble_is_logged_when_it_begins_and_when_it_is_over() -> None:
    logger = Lines()
    log = TroubleLog(cast("Any", logger), lambda: logger.now_s)

    def second(*sentences: str, listened: bool = True) -> list[str]:
        logger.now_s += 1.0
        logger.lines.clear()
        log.update(sentences, listened)
        return list(logger.lines)

    assert second() == []
    assert second("no image for 2.1 s", "slow") == ["W no image for 2.1 s", "W slow"]
    # The same with other numbers, also where it is gone for a moment.
    assert second("no image for 3.1 s", "slow") == []
    assert second("slow") == []
    assert second("no image for 4 s", "slow") == []
    assert second("slow") == second("slow") == []
    assert second("slow") == ["I over after 3 s: no image for 4 s"]
    assert second("slow", "no image for 2.0 s") == ["W no image for 2.0 s"]
    # Nobody listens: nobody knows.
    assert second("slow", listened=False) == []
    assert second("slow") == second("slow") == second("slow") == second("slow") == []
    assert second("slow", "no image for 2.0 s") == ["W no image for 2.0 s"]


def test_a_trouble_of_one_of_several_cameras_names_it() -> None:
    logger = Lines()
    log = TroubleLog(cast("Any", logger), lambda: logger.now_s, "camera front")
    log.update(["slow"], listened=True)
    logger.now_s = 10.0
    log.update([], listened=True)
    assert logger.lines == ["W camera front: slow", "I over after 0 s: camera front: slow"]


def test_array_keeps_header_and_status() -> None:
    header = Header(frame_id="x")
    status = status_message("n", "", NOW, {}, [])
    array = array_message(header, status)
    assert (array.header, list(array.status)) == (header, [status])
