"""Messages as no camera should send them: none stops the node, each is counted, and nothing grows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no model to name")

from sensor_msgs.msg import CompressedImage, Image
from support.malformed import HEIGHT, WIDTH, Malformed
from support.node_under_test import RELIABLE, NodeUnderTest

from rt_segmentation.imaging.codec import encode_jpeg
from rt_segmentation.models import ModelManifest

GROWTH_MB = 25.0
"""What the C library may keep of the largest image for the next one [MB]."""


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> NodeUnderTest:
    """With an engine of one line, whose frames cost nothing."""
    folder = tmp_path_factory.mktemp("malformed")
    environment = {"FAULT": str(folder / "never"), "XDG_CACHE_HOME": str(folder)}
    module = "support.faulty_engine_node"
    settings: dict[str, Any] = {"engine": "faulty", "input_width": WIDTH, "input_height": HEIGHT}
    node = NodeUnderTest(
        stage.spawn, stage.observer, "/malformed", small_model, environment, module, **settings
    )
    node.process.wait_for("active:")
    return node


def good_image(frame_id: str) -> Image:
    message = Image(width=WIDTH, height=HEIGHT, encoding="mono8", step=WIDTH, data=bytes(WIDTH * HEIGHT))
    message.header.frame_id = frame_id
    return message


def good_file(frame_id: str) -> CompressedImage:
    message = CompressedImage(format="jpeg", data=encode_jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    message.header.frame_id = frame_id
    return message


@pytest.mark.parametrize("count", [100, pytest.param(5000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["raw", "compressed"])
def test_malformed_messages_are_counted_and_the_good_ones_between_are_segmented(
    node: NodeUnderTest, listen: Any, kind: str, count: int
) -> None:
    malformed = Malformed(seed=count)
    assert node.set_parameter("image_transport", kind).successful
    bad, good, message_type, end = (
        (malformed.image, good_image, Image, "")
        if kind == "raw"
        else (malformed.file, good_file, CompressedImage, "/compressed")
    )
    labels = listen(Image, node.topic("label"))
    publisher = node.observer.node.create_publisher(message_type, f"{node.namespace}/image{end}", RELIABLE)
    node.hears(publisher)
    node.fresh_status()
    keys = ("frames received", "masks published", "frames dropped", "messages lost by the middleware")
    before, first = [node.count(key) for key in keys], node.footprint()
    for number in range(count):
        publisher.publish(bad())
        # One at a time, so that each is decoded and none is replaced.
        node.observer.executor.spin_once(timeout_sec=0.003)
        name = f"good {number}"
        labels.clear()
        publisher.publish(good(name))
        node.spin_until(lambda name=name: any(label.header.frame_id == name for label in labels))
        if number == count // 5:
            first = node.footprint()
    node.fresh_status()
    received, published, dropped, lost = (node.count(key) - was for key, was in zip(keys, before))
    last = node.footprint()
    assert (received, lost) == (2 * count, 0)
    assert published + dropped == received and published >= count
    assert "Traceback" not in node.process.output
    # What is wrong with a message is no fault of the node's.
    assert node.count("frames dropped: failed") == 0, node.process.output
    assert last.resident_mb < first.resident_mb + GROWTH_MB
    assert (last.threads, last.files) <= (first.threads + 1, first.files + 1)
    reasons = {key: node.count(key) for key in node.values() if key.startswith("frames dropped: ")}
    print(
        f"{count} malformed {kind} messages between as many good ones: {published} masks, {dropped} dropped,"
        f" 0 lost; from {first} to {last}; so far {reasons}"
    )
    node.observer.node.destroy_publisher(publisher)
