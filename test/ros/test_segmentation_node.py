"""From a camera's process over DDS through the node's: every mask, and what becomes of every frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from node_under_test import CAMERA, ENGINE, RELIABLE, NodeUnderTest, offline, pixels, ros_args, stamp  # type: ignore[import-not-found]
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float64

from rt_segmentation.data.camvid import UNLABELLED_ID, CamVid
from rt_segmentation.evaluation.dataset import evaluate
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.models import ModelManifest, find_model

IMAGE_TYPES: dict[str, Any] = {"raw": Image, "compressed": CompressedImage}


@pytest.fixture(scope="module")
def segmenter(small_model: ModelManifest) -> Segmenter:
    return Segmenter.build(small_model, **ENGINE)


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    """Fast: its input is 160x120."""
    return NodeUnderTest(stage.spawn, stage.observer, "/fast", small_model)


@pytest.fixture(scope="module")
def slow_node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    """Slow: the network's input is sixteen times larger."""
    size = {"input_width": 640, "input_height": 480}
    return NodeUnderTest(stage.spawn, stage.observer, "/slow", small_model, **size)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("resolution", ["input", "network"])
def test_every_frame_becomes_the_mask_that_is_made_offline(
    stage: Any, listen: Any, node: NodeUnderTest, segmenter: Segmenter, transport: str, resolution: str
) -> None:
    count = 6
    assert node.set_parameter("image_transport", transport).successful
    assert node.set_parameter("output_resolution", resolution).successful
    topic = "/fast/image" if transport == "raw" else "/fast/image/compressed"
    images = listen(IMAGE_TYPES[transport], topic)
    labels = listen(Image, node.topic("label"))
    infos = listen(CameraInfo, node.topic("camera_info"))
    size = {"width": 240, "height": 180, "frame_id": "front_left"}
    pace = {"rate_hz": 2.0, "count": count, "wait_for_subscribers": 2, "image_transport": transport}
    camera = stage.spawn(CAMERA, *ros_args("/fast", **size, **pace))
    node.spin_until(lambda: len(labels) >= count)
    assert camera.finish() == 0
    assert f"published {count} frames" in camera.output
    node.fresh_status()
    assert len(labels) == len(images) == len(infos) == count

    expected_size = (240, 180) if resolution == "input" else (160, 120)
    reference = Segmenter(replace(segmenter.config, output_resolution=resolution))
    for image, label, info in zip(images, labels, infos):
        assert (label.header, label.encoding) == (image.header, "mono8")
        assert label.header.frame_id == "front_left"
        assert (label.width, label.height) == expected_size
        np.testing.assert_array_equal(pixels(label), offline(reference, image).labels)
        # The axis of this camera goes through its centre; at 70 degrees the focal length is w / 2 / tan 35.
        focal = 240 / 2 / np.tan(np.radians(35)) * expected_size[0] / 240
        assert (info.header, info.width, info.height) == (label.header, *expected_size)
        np.testing.assert_allclose(info.k[0], focal)
        np.testing.assert_allclose(info.p[6], 89.5 * expected_size[1] / 180)
    assert len(np.unique(pixels(labels[0]))) > 3


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_too_many_frames_are_each_accounted_for_and_the_newest_wins(
    stage: Any, listen: Any, slow_node: NodeUnderTest, transport: str, reliability: str
) -> None:
    count, node = 120, slow_node
    assert node.set_parameter("image_transport", transport).successful
    labels = listen(Image, node.topic("label"))
    latencies = listen(Float64, node.topic("latency_ms"))
    infos = listen(CameraInfo, node.topic("camera_info"))
    kinds = {"received": "frames received", "masks": "masks published", "dropped": "frames dropped"}
    kinds["lost"] = "messages lost by the middleware"
    node.fresh_status()
    before = {kind: node.count(key) for kind, key in kinds.items()}

    def since() -> dict[str, int]:
        return {kind: node.count(key) - before[kind] for kind, key in kinds.items()}

    def at_rest() -> bool:
        now = since()
        return bool(now["received"]) and now["received"] == now["masks"] + now["dropped"]

    pace = {"rate_hz": 60.0, "count": count, "wait_for_subscribers": 1}
    how = {"width": 320, "height": 240, "image_transport": transport, "reliability": reliability}
    camera = stage.spawn(CAMERA, *ros_args("/slow", **how, **pace))
    node.spin_until(lambda: not camera.is_running())
    assert camera.finish() == 0
    assert f"published {count} frames" in camera.output
    node.fresh_status()
    node.spin_until(at_rest)
    node.spin_until(lambda: len(labels) >= since()["masks"])

    now = since()
    assert now["masks"] + now["dropped"] + now["lost"] == count, now
    assert len(labels) == now["masks"]
    assert {stamp(info) for info in infos} <= {stamp(label) for label in labels}
    assert infos
    # It was too much for it, and it went on.
    assert 2 <= now["masks"] < count
    stamps = [stamp(label) for label in labels]
    assert stamps == sorted(set(stamps))
    # A queue would have made the last mask some hundred inferences late; here it waits for one at most.
    inference_ms = float(node.values()["inference max [ms]"])
    assert 0 < max(latency.data for latency in latencies) < 2 * inference_ms + 2000


def test_last_frame_of_a_burst_is_segmented(stage: Any, listen: Any, slow_node: NodeUnderTest) -> None:
    assert slow_node.set_parameter("image_transport", "raw").successful
    images = listen(Image, "/slow/image")
    labels = listen(Image, slow_node.topic("label"))
    burst = {"rate_hz": 100.0, "count": 30, "wait_for_subscribers": 2, "queue_depth": 100}
    stage.spawn(CAMERA, *ros_args("/slow", width=320, height=240, **burst))
    slow_node.spin_until(lambda: len(images) == 30)
    slow_node.spin_until(lambda: stamp(images[-1]) in [stamp(label) for label in labels])
    assert len(labels) < 30


def subscriptions(node: NodeUnderTest, topic: str) -> list[Any]:
    infos = node.observer.node.get_subscriptions_info_by_topic(topic)
    return [info for info in infos if info.node_name == "segmentation_node"]


def test_nobody_listens_so_the_node_does_not(stage: Any, small_model: ModelManifest) -> None:
    observer = stage.observer
    node = NodeUnderTest(stage.spawn, observer, "/idle", small_model)
    image = observer.node.create_publisher(Image, "/idle/image", RELIABLE)
    info = observer.node.create_publisher(CameraInfo, "/idle/camera_info", RELIABLE)
    node.process.wait_for("active:")
    assert node.fresh_status().message == "active, nobody listens"
    assert image.get_subscription_count() == info.get_subscription_count() == 0

    labels = observer.subscribe(Image, node.topic("label"), RELIABLE)
    node.spin_until(lambda: image.get_subscription_count() == 1)
    assert info.get_subscription_count() == 0
    infos = observer.subscribe(CameraInfo, node.topic("camera_info"), RELIABLE)
    node.spin_until(lambda: info.get_subscription_count() == 1)
    observer.unsubscribe(infos)
    node.spin_until(lambda: info.get_subscription_count() == 0)
    assert image.get_subscription_count() == 1
    observer.unsubscribe(labels)
    node.spin_until(lambda: image.get_subscription_count() == 0)


def test_subscription_is_as_reliable_as_the_camera(stage: Any, listen: Any, node: NodeUnderTest) -> None:
    assert node.set_parameter("image_transport", "raw").successful
    labels = listen(Image, node.topic("label"))
    for reliability in (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE):
        qos = QoSProfile(depth=5, reliability=reliability)
        camera = stage.observer.node.create_publisher(Image, "/fast/image", qos)

        def followed(wanted: ReliabilityPolicy = reliability) -> bool:
            infos = subscriptions(node, "/fast/image")
            return [info.qos_profile.reliability for info in infos] == [wanted]

        node.spin_until(followed)
        node.spin_until(lambda camera=camera: camera.get_subscription_count() == 1)
        image = Image(encoding="mono8", width=64, height=48, step=64, data=bytes(64 * 48))
        # What is sent before the match is known on both sides may be lost.
        before = len(labels)
        while len(labels) == before:
            camera.publish(image)
            node.spin_for(0.5)
        stage.observer.node.destroy_publisher(camera)
        node.spin_until(lambda: stage.observer.node.count_publishers("/fast/image") == 0)
        # What it sent may be unread: the subscription waits as it is for whoever comes next.
        node.spin_for(0.6)
        assert followed()


def test_camvid_over_dds_scores_as_offline(
    stage: Any,
    listen: Any,
    shared_data: Path,
    record_property: Any,
) -> None:
    model = find_model("enet")
    folder = shared_data / "camvid" / "val"
    dataset = CamVid(shared_data / "camvid", "val")
    count = len(dataset)
    assert count == 101
    namespace = "/camvid"
    node = NodeUnderTest(stage.spawn, stage.observer, namespace, model)
    labels = listen(Image, node.topic("label"))
    truths = listen(Image, f"{namespace}/label")
    source = {"source": folder / "images", "labels": folder / "labels", "loop": False, "count": count}
    camera = stage.spawn(CAMERA, *ros_args(namespace, **source, rate_hz=3.0, wait_for_subscribers=1))
    node.spin_for(count / 3.0)
    node.spin_until(lambda: not camera.is_running())
    assert camera.finish() == 0
    node.spin_until(lambda: len(labels) == len(truths) == count)

    online, alone = ConfusionMatrix(11), ConfusionMatrix(11)
    for label, truth in zip(labels, truths):
        assert label.header == truth.header
        true_ids = np.where(pixels(truth) == UNLABELLED_ID, IGNORE_ID, pixels(truth))
        online.update(true_ids, pixels(label))
    for _, confusion in evaluate(Segmenter.build(model, **ENGINE), dataset):
        alone.add(confusion)
    np.testing.assert_array_equal(online.counts, alone.counts)
    assert online.mean_iou() == alone.mean_iou() > 0
    record_property("mean_iou", online.mean_iou())
