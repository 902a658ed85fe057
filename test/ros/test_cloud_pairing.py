"""The semantic cloud node where masks and what goes with them come too late for each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sensor_msgs.msg import Image
from support.cloud_under_test import LABELS, METRES, of


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


@pytest.mark.parametrize(
    ("early", "late", "sentence"),
    [
        (
            "depth",
            "label",
            "/depth was dropped before its mask came: the stamps on /label are 9.8 s behind, and 3 s, or 64 "
            "messages, are kept; what helps are faster masks, as of a smaller network or input, and",
        ),
        (
            "label",
            "depth",
            "masks were dropped before their depth came: the stamps on /depth are 9.8 s behind those on "
            "/label, and 3 s, or 64 messages, are kept; what helps is to send it sooner",
        ),
    ],
)
def test_what_was_dropped_before_its_counterpart_came_is_no_matter_of_tolerance(
    inner: Any, early: str, late: str, sentence: str
) -> None:
    images = {"label": of(LABELS, "mono8"), "depth": of(METRES, "32FC1")}

    def send(name: str, tenths: int) -> None:
        stamp = images[name].header.stamp
        stamp.sec, stamp.nanosec = tenths // 10, tenths % 10 * 100_000_000
        inner._taker(name)(images[name])

    for tenths in range(100):
        send(early, tenths)
    send(late, 1)
    (found,) = filter(None, inner._troubles())
    assert found.startswith(sentence) and "more than sync_tolerance_s" not in found
    # What is kept is found, and nothing is wrong any more.
    send(late, 99)
    assert inner._ready is not None and not any(inner._troubles())


def test_depth_without_a_mask_has_its_room_and_that_is_said_once(
    inner: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    large = Image(encoding="32FC1", width=4000, height=4000, step=16000)
    large.data.frombytes(bytes(64_000_000))
    for tenths in range(20):
        large.header.stamp.sec, large.header.stamp.nanosec = divmod(tenths * 100_000_000, 10**9)
        inner._taker("depth")(large)
    said = "what waits for masks has 256 MB, and is dropped beyond: 0.3 s of /depth are kept"
    assert capfd.readouterr().err.count(said) == 1
    # It takes the place of one of four.
    inner._taker("label")(of(LABELS, "mono8"))
    assert "/depth was dropped before its mask came" in inner._troubles()[-1]
    assert "256 MB hold 0.2 s" in inner._troubles()[-1]
    assert "or a lower resolution or rate of /depth" in inner._troubles()[-1]
