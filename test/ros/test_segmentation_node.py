"""From a camera's process over DDS through the node's: every mask, and what becomes of every frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float64, Header
from support.node_under_test import (
    CAMERA,
    RELIABLE,
    TORCH,
    Feeder,
    NodeUnderTest,
    offline,
    ros_args,
    stamp,
)
from support.sleeping_engine_node import SleepingEngine
from support.streets import street_scene

from rt_segmentation.data.camvid import CamVid
from rt_segmentation.evaluation.dataset import segment_image
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.imaging.codec import encode_jpeg
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.ros.camera_node import camera_info
from rt_segmentation.ros.messages import compressed_message, image_message
from rt_segmentation.ros.security_policy import policy
from rt_segmentation.ros.topics import CAMERA as CAMERA_TOPICS
from rt_segmentation.ros.topics import SEGMENTATION, Qos, Topic

WIDTH, HEIGHT = 240, 180
IMAGE_TYPES: dict[str, Any] = {"raw": Image, "compressed": CompressedImage}


def camera_image(transport: str, time_s: float) -> Any:
    """A moment of a street, as a camera message."""
    rgb = street_scene(0, WIDTH, HEIGHT).render(time_s)[0]
    header = Header()
    if transport == "raw":
        return image_message(header, rgb, "rgb8")
    return compressed_message(header, encode_jpeg(rgb, 90), "rgb8; jpeg compressed bgr8")


@pytest.fixture(scope="module")
def segmenter(small_model: ModelManifest) -> Segmenter:
    return Segmenter.build(small_model, **TORCH)


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    """Fast: its input is 160x120."""
    return NodeUnderTest(stage.spawn, stage.observer, "/fast", small_model, **TORCH)


@pytest.fixture(scope="module")
def slow_node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    """Slow on any machine: its engine takes longer for a frame than ten of them are apart."""
    module = "support.sleeping_engine_node"
    node = NodeUnderTest(
        stage.spawn, stage.observer, "/slow", small_model, None, module, engine=SleepingEngine.name
    )
    # Of frames that come before, while it learns how large they are, it counts none.
    node.process.wait_for("active: ")
    return node


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320x240: to read it again and again takes a camera less than to draw a street."""
    path = tmp_path_factory.mktemp("picture") / "street.png"
    cv2.imwrite(str(path), street_scene(0, 320, 240).render(0.0)[0])
    return path


@pytest.mark.parametrize("transport", ["raw", "compressed"])
@pytest.mark.parametrize("resolution", ["input", "network"])
def test_every_frame_becomes_the_mask_that_is_made_offline(
    stage: Any, listen: Any, node: NodeUnderTest, segmenter: Segmenter, transport: str, resolution: str
) -> None:
    assert node.set_parameter("image_transport", transport).successful
    assert node.set_parameter("output_resolution", resolution).successful
    labels = listen(Image, node.topic("label"))
    infos = listen(CameraInfo, node.topic("camera_info"))
    feeder = Feeder(node, IMAGE_TYPES[transport])
    calibration = stage.observer.node.create_publisher(CameraInfo, "/fast/camera_info", 5)
    node.spin_until(lambda: calibration.get_subscription_count() == 1)
    images = [camera_image(transport, 0.5 * number) for number in range(6)]
    # The calibration is sent once, as by some drivers; a match is known here before it is there.
    while not infos:
        calibration.publish(camera_info(WIDTH, HEIGHT, 70.0))
        feeder.segment(images[0], labels)
    node.fresh_status()
    before = node.count("masks published"), node.count("frames dropped"), feeder.repeated

    expected_size = (240, 180) if resolution == "input" else (160, 120)
    reference = Segmenter(replace(segmenter.config, output_resolution=resolution))
    for image in images:
        mask = feeder.segment(image, labels)
        assert labels[-1].encoding == "mono8"
        assert (labels[-1].width, labels[-1].height) == expected_size
        np.testing.assert_array_equal(mask, offline(reference, image).labels)
        assert len(np.unique(mask)) > 3
        node.spin_until(lambda image=image: infos[-1].header == image.header)
        # The axis of this camera goes through its centre; at 70 degrees the focal length is w / 2 / tan 35.
        focal = 240 / 2 / np.tan(np.radians(35)) * expected_size[0] / 240
        assert (infos[-1].width, infos[-1].height) == expected_size
        np.testing.assert_allclose(infos[-1].k[0], focal)
        np.testing.assert_allclose(infos[-1].p[6], 89.5 * expected_size[1] / 180)
    node.fresh_status()
    assert 0 <= node.count("masks published") - before[0] - len(images) <= feeder.repeated - before[2]
    assert node.count("frames dropped") == before[1]
    feeder.close()
    stage.observer.node.destroy_publisher(calibration)


@pytest.mark.parametrize(
    ("transport", "reliability"),
    [("raw", "reliable"), ("raw", "best_effort"), ("compressed", "best_effort")],
)
def test_too_many_frames_are_each_accounted_for_and_the_newest_wins(
    stage: Any, listen: Any, slow_node: NodeUnderTest, picture: Path, transport: str, reliability: str
) -> None:
    count, node = 60, slow_node
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
    how = {"source": picture, "image_transport": transport, "reliability": reliability}
    camera = stage.spawn(CAMERA, *ros_args("/slow", **how, **pace))
    node.spin_until(lambda: not camera.is_running())
    assert camera.finish() == 0
    assert f"published {count} frames" in camera.output
    node.fresh_status()
    node.spin_until(at_rest)
    node.spin_until(lambda: len(labels) >= since()["masks"])

    now = since()
    accounted = now["masks"] + now["dropped"] + now["lost"]
    # A best-effort camera may find the node before the node finds it: no middleware delivers or counts what
    # it sends until then.
    unseen = 0 if reliability == "reliable" else 5
    assert count - unseen <= accounted <= count, now
    assert len(labels) == now["masks"]
    assert {stamp(info) for info in infos} <= {stamp(label) for label in labels}
    assert infos
    # It was too much for it, and it went on.
    assert 2 <= now["masks"] < count
    stamps = [stamp(label) for label in labels]
    assert stamps == sorted(set(stamps))
    # A queue would have made the last mask some hundred inferences late; here it waits for one at most.
    inference_ms = max(float(value) for value in node.history("inference max [ms]"))
    assert 0 < max(latency.data for latency in latencies) < 2 * inference_ms + 2000


def test_last_frame_of_a_burst_is_segmented(
    stage: Any, listen: Any, slow_node: NodeUnderTest, picture: Path
) -> None:
    assert slow_node.set_parameter("image_transport", "raw").successful
    images = listen(Image, "/slow/image")
    labels = listen(Image, slow_node.topic("label"))
    burst = {"rate_hz": 100.0, "count": 30, "wait_for_subscribers": 2, "queue_depth": 100}
    stage.spawn(CAMERA, *ros_args("/slow", source=picture, **burst))
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


def test_what_is_lost_while_it_subscribes_anew_is_counted(
    stage: Any, listen: Any, node: NodeUnderTest
) -> None:
    """A second camera that sends with less makes it ask for less from the first one, too."""
    assert node.set_parameter("image_transport", "raw").successful
    labels, feeder = listen(Image, node.topic("label")), Feeder(node)
    image = Image(encoding="mono8", width=64, height=48, step=64, data=bytes(64 * 48))
    feeder.segment(image, labels)
    node.fresh_status()
    keys = ("frames received", "messages lost by the middleware")
    before, sent = sum(node.count(key) for key in keys), 0
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    other = stage.observer.node.create_publisher(Image, "/fast/image", qos)

    def reliabilities() -> list[ReliabilityPolicy]:
        return [info.qos_profile.reliability for info in subscriptions(node, "/fast/image")]

    last = False
    while not (last and any(label.header == image.header for label in labels)):
        last = last or reliabilities() == [ReliabilityPolicy.BEST_EFFORT]
        feeder.publish(image)
        sent += 1
        node.spin_for(0.3 if last else 0.0)
    node.spin_until(lambda: sum(node.count(key) for key in keys) >= before + sent)
    node.fresh_status()
    assert sum(node.count(key) for key in keys) == before + sent
    stage.observer.node.destroy_publisher(other)
    feeder.close()


def is_there(topic: Topic) -> bool:
    """Whether a node has a topic that sends raw images, whatever message packages are installed."""
    try:
        topic.message_type()
    except ImportError:
        return False
    return topic.name != "image/compressed"


def test_the_graph_is_as_the_table_of_topics_and_the_policy_say(
    stage: Any, listen: Any, node: NodeUnderTest
) -> None:
    assert node.set_parameter("image_transport", "raw").successful
    observer, own = stage.observer.node, ("/parameter_events", "/rosout")
    listen(Image, node.topic("label"))
    listen(CameraInfo, node.topic("camera_info"))
    camera = stage.spawn(CAMERA, *ros_args("/fast", width=320, height=240))
    camera.wait_for("publishing")
    node.spin_until(lambda: ("camera_node", "/fast") in observer.get_node_names_and_namespaces())
    allowed = ElementTree.fromstring(policy())
    for name, table in (("segmentation_node", SEGMENTATION), ("camera_node", CAMERA_TOPICS)):

        def full(topic: str, name: str = name) -> str:
            return topic.replace("~", f"/fast/{name}") if topic[0] in "~/" else f"/fast/{topic}"

        there = {full(t.name): t for t in table if is_there(t)}
        inputs = {topic: [t.type] for topic, t in there.items() if t.is_input}
        outputs = {topic: [t.type] for topic, t in there.items() if not t.is_input}

        def named(found: Any, left_out: tuple[str, ...] = own) -> dict[str, list[str]]:
            return {topic: types for topic, types in found if topic not in left_out}

        def as_said(name: str = name, inputs: Any = inputs, outputs: Any = outputs) -> bool:
            where = (name, "/fast")
            without = (*own, "/clock", f"/fast/{name}/transition_event")
            return (
                named(observer.get_publisher_names_and_types_by_node(*where), without) == outputs
                and named(observer.get_subscriber_names_and_types_by_node(*where), without) == inputs
            )

        node.spin_until(as_said)
        for topic in outputs:
            qos = there[topic].qos
            if isinstance(qos, Qos):
                infos = observer.get_publishers_info_by_topic(topic)
                (info,) = [info for info in infos if info.node_namespace == "/fast"]
                wanted = qos.profile()
                assert info.qos_profile.reliability == wanted.reliability
                assert info.qos_profile.durability == wanted.durability
        # What the node has at all, rclpy's own included, the policy lets it have.
        (profile,) = [p for p in allowed.iter("profile") if p.get("node") == name]

        def permitted(verb: str, profile: Any = profile) -> set[str]:
            return {full(str(rule.text)) for rules in profile if verb in rules.attrib for rule in rules}

        where = (name, "/fast")
        assert dict(observer.get_publisher_names_and_types_by_node(*where)).keys() <= permitted("publish")
        assert dict(observer.get_subscriber_names_and_types_by_node(*where)).keys() <= permitted("subscribe")
        assert dict(observer.get_service_names_and_types_by_node(*where)).keys() <= permitted("reply")
    camera.kill()


@pytest.mark.parametrize("every", [16, pytest.param(4, marks=pytest.mark.long)])
def test_camvid_over_dds_scores_as_offline(
    every: int,
    stage: Any,
    listen: Any,
    shared_data: Path,
    record_property: Any,
) -> None:
    model = find_model("enet")
    dataset = CamVid(shared_data / "camvid", "val")
    assert len(dataset) == 101
    node = NodeUnderTest(stage.spawn, stage.observer, "/camvid", model, **TORCH)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    segmenter = Segmenter.build(model, **TORCH)
    online, alone = ConfusionMatrix(11), ConfusionMatrix(11)
    # Neighbours of a sequence are alike.
    chosen = range(0, len(dataset), every)
    for sample in (dataset[index] for index in chosen):
        online.update(sample.labels, feeder.segment(image_message(Header(), sample.image, "rgb8"), labels))
        alone.update(sample.labels, segment_image(segmenter, sample.image))
    node.fresh_status()
    assert len(chosen) == {16: 7, 4: 26}[every]
    assert 0 <= node.count("masks published") - len(chosen) <= feeder.repeated
    assert 0 <= len(labels) - len(chosen) <= feeder.repeated
    assert node.count("frames dropped") == 0
    np.testing.assert_array_equal(online.counts, alone.counts)
    assert online.mean_iou() == alone.mean_iou() > 0
    record_property("mean_iou", online.mean_iou())
    feeder.close()
