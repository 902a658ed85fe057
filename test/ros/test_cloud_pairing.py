"""The semantic cloud node where masks and what goes with them come too late for each other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sensor_msgs.msg import Image
from support.cloud_under_test import LABELS, METRES, PATIENCE_S, Cloud, frame, of


@pytest.mark.parametrize(
    ("early", "late", "sentence"),
    [
        (
            {"depth": of(METRES, "32FC1")},
            {"label": of(LABELS, "mono8")},
            "/late_label/depth was dropped before its mask came: the stamps on /late_label/label are 4.0 s "
            "behind, and 3 s are kept; what helps are faster masks, as of a smaller network or input, and",
        ),
        (
            {"label": of(LABELS, "mono8")},
            {"depth": of(METRES, "32FC1")},
            "masks were dropped before their depth came: the stamps on /late_depth/depth are 4.0 s behind "
            "those on /late_depth/label, and 3 s are kept; what helps is to send it sooner",
        ),
    ],
)
def test_what_was_dropped_before_its_counterpart_came_is_no_matter_of_tolerance(
    stage: Any, early: dict[str, Any], late: dict[str, Any], sentence: str
) -> None:
    node = Cloud(stage, f"/late_{next(iter(late))}", use_confidence=False, use_color=False)
    deadline = time.monotonic() + PATIENCE_S
    while sentence not in node.process.output:
        assert time.monotonic() < deadline, node.process.output
        # Stamps a second apart, and then one of the second's: each `send` is 10 s later.
        for number in range(6):
            node.send(late=dict.fromkeys(early, -9.0 * number), **early)
        node.send(late=dict.fromkeys(late, -59.0), **late)
        node.spin_for(0.3)
    node.says(sentence)
    assert "more than sync_tolerance_s" not in node.process.output
    assert node.made_of(**frame(confidence=None, color=None)).width == LABELS.shape[1]


@pytest.fixture()
def inner(ros_environment: None) -> Iterator[Any]:
    """The node in this process, with its defaults."""
    import rclpy

    from rt_segmentation.ros.cloud_node import CloudNode

    rclpy.init()
    node = CloudNode()
    node.start()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_depth_without_a_mask_has_its_room_and_that_is_said_once(
    inner: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    large = Image(encoding="32FC1", width=4000, height=4000, step=16000)
    large.data.frombytes(bytes(64_000_000))
    for second in range(0, 20):
        large.header.stamp.sec, large.header.stamp.nanosec = divmod(second * 100_000_000, 10**9)
        inner._taker("depth")(large)
    said = "what waits for masks has 256 MB, and is dropped beyond: 0.3 s of /depth are kept"
    assert capfd.readouterr().err.count(said) == 1
    # It takes the place of one of four.
    inner._taker("label")(of(LABELS, "mono8"))
    assert "/depth was dropped before its mask came" in inner._troubles()[-1]
    assert "256 MB hold 0.2 s" in inner._troubles()[-1]
    assert "or a lower resolution or rate of /depth" in inner._troubles()[-1]
