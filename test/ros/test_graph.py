"""What the graph says where nothing comes, and what was sent before the node was there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from support.node_under_test import NodeUnderTest, stamp

from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.graph import COMPRESSED_IMAGE, IMAGE, owners, qos_for, why_silent
from rt_segmentation.ros.messages import image_message

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
PIXELS = np.random.RandomState(0).randint(0, 256, (120, 160, 3), np.uint8)


@pytest.mark.parametrize(
    ("wanted", "topic", "there", "sentence"),
    [
        (IMAGE, "/cam", {}, f"nobody publishes it, and no other topic has {IMAGE}"),
        (
            IMAGE,
            "/cam",
            {"/cam": Image},
            "its publisher camera sends nothing, or what it sends is lost on the",
        ),
        (IMAGE, "/cam", {"/front/cam": Image, "/rear": Image}, f"it; {IMAGE} is on /front/cam, /rear"),
        (
            IMAGE,
            "/cam",
            {"/cam/compressed": CompressedImage},
            "it, but /cam/compressed is there: set image_transport to compressed",
        ),
        (
            IMAGE,
            "/cam/compressed",
            {"/cam/compressed": CompressedImage},
            f"it has {COMPRESSED_IMAGE}, not {IMAGE}; set image_transport to compressed and image to /cam",
        ),
        (
            IMAGE,
            "/jpegs",
            {"/jpegs": CompressedImage},
            "set image_transport to compressed and remap /jpegs/compressed to /jpegs",
        ),
        (IMAGE, "/cam", {"/cam": CameraInfo}, f"it has sensor_msgs/msg/CameraInfo, not {IMAGE}"),
        (
            COMPRESSED_IMAGE,
            "/cam/compressed",
            {"/cam": Image},
            "it, but /cam is there with raw images: set image_transport to raw",
        ),
        (
            COMPRESSED_IMAGE,
            "/cam/compressed/compressed",
            {"/cam/compressed": CompressedImage},
            "nobody publishes it; set image to /cam, as /compressed is added to it",
        ),
        (
            COMPRESSED_IMAGE,
            "/jpegs/compressed",
            {"/jpegs": CompressedImage},
            "it, but /jpegs is there: remap /jpegs/compressed to it",
        ),
        (
            COMPRESSED_IMAGE,
            "/cam/compressed",
            {"/cam/compressed": Image},
            "set image_transport to raw and image to /cam/compressed",
        ),
    ],
)
def test_the_reason_for_silence_says_what_to_set(
    context: Any, wanted: str, topic: str, there: dict[str, Any], sentence: str
) -> None:
    camera = Node("camera", context=context)
    for name, message_type in there.items():
        camera.create_publisher(message_type, name, 1)
    # Its own outputs, and what somebody else only listens to, are no cameras.
    camera.create_publisher(Image, "~/label", 1)
    camera.create_subscription(Image, "/wanted_elsewhere", lambda _: None, 1)
    assert sentence in why_silent(camera, topic, wanted)
    camera.destroy_node()


def test_a_publisher_whose_node_is_gone_has_no_name_of_the_middleware() -> None:
    """As of a camera that was killed, until the middleware gives it up."""
    assert owners(["_NODE_NAME_UNKNOWN_", "rear", "front"]) == "front, rear"
    assert owners(["_NODE_NAME_UNKNOWN_"]) == "of an unknown node"


def test_a_subscription_asks_for_what_every_publisher_gives(context: Any) -> None:
    node = Node("camera", context=context)
    reliable, best_effort = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
    latched, volatile = DurabilityPolicy.TRANSIENT_LOCAL, DurabilityPolicy.VOLATILE
    for expected, profiles in (
        ((reliable, latched), [(reliable, latched)]),
        ((reliable, volatile), [(reliable, latched), (reliable, volatile)]),
        ((best_effort, volatile), [(reliable, latched), (best_effort, volatile)]),
        ((best_effort, latched), [(best_effort, latched)]),
    ):
        publishers = [
            node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=r, durability=d))
            for r, d in profiles
        ]
        assert qos_for(node.get_publishers_info_by_topic("/image")) == expected
        for publisher in publishers:
            node.destroy_publisher(publisher)
    node.destroy_node()


def test_what_is_latched_before_the_node_comes_is_segmented(
    stage: Any, listen: Any, small_model: ModelManifest
) -> None:
    node = stage.observer.node
    header = Header(stamp=node.get_clock().now().to_msg(), frame_id="map")
    images = node.create_publisher(Image, "/latched/image", LATCHED)
    calibrations = node.create_publisher(CameraInfo, "/latched/camera_info", LATCHED)
    images.publish(image_message(header, PIXELS, "rgb8"))
    info = CameraInfo(header=header, width=160, height=120)
    info.k[0] = 150.0
    calibrations.publish(info)
    under_test = NodeUnderTest(stage.spawn, stage.observer, "/latched", small_model, use_sim_time=True)
    infos = listen(CameraInfo, under_test.topic("camera_info"))
    labels = listen(Image, under_test.topic("label"))
    under_test.spin_until(lambda: bool(labels))
    assert stamp(labels[0]) == (header.stamp.sec, header.stamp.nanosec)
    # How long it was kept for the node is no latency of the node's.
    assert "latency" not in under_test.fresh_status().message
    assert not any(key.startswith("latency") for key in under_test.values())
    # The image may have come before the calibration: the next one goes with it.
    while not infos:
        images.publish(image_message(header, PIXELS, "rgb8"))
        under_test.spin_for(0.3)
    assert infos[0].k[0] == 150.0
    # A camera that is heard only as it is now joins: both are heard.
    volatile = node.create_publisher(Image, "/latched/image", 5)
    later = Header(stamp=node.get_clock().now().to_msg(), frame_id="volatile")
    while not any(label.header == later for label in labels):
        volatile.publish(image_message(later, PIXELS, "rgb8"))
        under_test.spin_for(0.3)
    # Nobody publishes the time that the node is told to go by.
    no_clock = "the latency is unknown: use_sim_time is true, and no time has come on /clock"
    under_test.spin_until(lambda: under_test.values().get("latency") == no_clock)
    under_test.process.wait_for(no_clock)
    for publisher in (images, calibrations, volatile):
        node.destroy_publisher(publisher)
    under_test.process.kill()


def test_silence_is_said_once_with_its_reason_and_once_when_it_is_over(
    stage: Any, listen: Any, small_model: ModelManifest
) -> None:
    node = stage.observer.node
    jpegs = node.create_publisher(CompressedImage, "/silent/image/compressed", 1)
    under_test = NodeUnderTest(stage.spawn, stage.observer, "/silent", small_model)
    labels = listen(Image, under_test.topic("label"))
    listen(CameraInfo, under_test.topic("camera_info"))
    reason = (
        "no image has come on /silent/image yet: nobody publishes it, but /silent/image/compressed is there:"
        " set image_transport to compressed"
    )
    under_test.process.wait_for(f"[silent.segmentation_node]: {reason}")
    no_info = "~/camera_info is listened to, and nothing has come on /silent/camera_info: nobody publishes it"
    under_test.process.wait_for(no_info)
    under_test.spin_until(lambda: bool(under_test.statuses) and reason in under_test.statuses[-1].message)
    images = node.create_publisher(Image, "/silent/image", 1)
    over = "s: no image has come on"
    while over not in under_test.process.output or not labels:
        # A camera that leaves its stamps at 0 has masks, and no latency.
        images.publish(image_message(Header(frame_id="x"), PIXELS, "rgb8"))
        under_test.spin_for(0.2)
    zero = "the latency is unknown: the camera leaves the stamps of its images at 0"
    under_test.spin_until(lambda: zero in under_test.statuses[-1].message)
    assert under_test.values()["latency"] == zero
    assert not any(key.startswith("latency p") for key in under_test.values())
    under_test.process.wait_for(zero)
    output = under_test.process.output
    assert [output.count(f"]: {sentence}") for sentence in (reason, no_info, zero)] == [1, 1, 1]
    node.destroy_publisher(jpegs)
    node.destroy_publisher(images)
    under_test.process.kill()
