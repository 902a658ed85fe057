"""The engine is ready once the node is active: by camera_info, by the last run, or by an early image."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no model to name")

from rcl_interfaces.srv import ListParameters
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from support.node_under_test import RELIABLE, Feeder, NodeUnderTest

from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.camera_size import RememberedSize, size_by_info
from rt_segmentation.ros.messages import compressed_message


@pytest.mark.parametrize(
    ("info", "size"),
    [
        (CameraInfo(width=640, height=480), (640, 480)),
        (CameraInfo(width=640, height=480, binning_x=2, binning_y=4), (320, 120)),
        (
            CameraInfo(width=640, height=480, binning_x=2, roi=RegionOfInterest(width=200, height=100)),
            (100, 100),
        ),
        (CameraInfo(), None),
        (CameraInfo(width=640), None),
    ],
)
def test_a_calibration_says_how_large_its_images_are(info: CameraInfo, size: tuple[int, int] | None) -> None:
    assert size_by_info(info) == size


def test_a_size_is_remembered_for_its_node_and_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remembered = RememberedSize("/front/segmentation_node", "/front/image")
    assert remembered.size is None
    remembered.remember((640, 360))
    assert RememberedSize("/front/segmentation_node", "/front/image").size == (640, 360)
    assert RememberedSize("/rear/segmentation_node", "/front/image").size is None
    assert RememberedSize("/front/segmentation_node", "/rear/image").size is None
    (file,) = (tmp_path / "rt_segmentation" / "cameras").iterdir()
    with monkeypatch.context() as full:
        full.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        remembered.remember((320, 240))
    # Nothing is left of what could not be written.
    assert list(file.parent.iterdir()) == [file]
    for damaged in ("", "{", "[]", '{"width": "wide", "height": 1}', '{"width": 0, "height": 1}'):
        file.write_text(damaged)
        assert RememberedSize("/front/segmentation_node", "/front/image").size is None


def test_where_nothing_can_be_written_there_is_nothing_to_remember(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    RememberedSize("/node", "/image").remember((640, 360))
    assert RememberedSize("/node", "/image").size is None


def gated_node(
    spawn: Any, observer: Any, model: ModelManifest, folder: Path, **parameters: Any
) -> NodeUnderTest:
    environment = {"GATES": str(folder), "XDG_CACHE_HOME": str(folder)}
    module = "support.gated_engine_node"
    return NodeUnderTest(spawn, observer, "/sized", model, environment, module, engine="gated", **parameters)


def test_the_engine_is_built_while_it_is_configured_for_the_size_of_the_last_run(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    # The model's height is 120.
    (tmp_path / "160x120").touch()
    node = gated_node(spawn, observer, small_model, tmp_path)
    labels = observer.subscribe(Image, node.topic("label"), 5)
    # Nobody publishes before: nothing is waited for.
    node.process.wait_for("active:")
    feeder = Feeder(node)
    message = Image(width=64, height=48, encoding="mono8", step=64, data=bytes(64 * 48))
    feeder.segment(message, labels)
    assert node.process.output.index("active:") < node.process.output.index("building 160x120")
    folder = tmp_path / "rt_segmentation" / "cameras"
    node.spin_until(lambda: folder.is_dir() and any(path.suffix == ".json" for path in folder.iterdir()))
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0

    again = gated_node(spawn, observer, small_model, tmp_path)
    again.process.wait_for("active:")
    assert again.process.output.index("building 160x120") < again.process.output.index("active:")
    feeder.segment(message, labels)
    assert again.process.output.count("building") == 1
    again.process.send(signal.SIGINT)
    assert again.process.finish() == 0


def test_the_engine_is_built_while_it_is_configured_for_the_size_in_camera_info(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    for name in ("160x120", "loading"):
        (tmp_path / name).touch()
    publisher = observer.node.create_publisher(CameraInfo, "/sized/camera_info", RELIABLE)
    node = gated_node(spawn, observer, small_model, tmp_path)
    node.spin_until(lambda: publisher.get_subscription_count() == 1)

    def known() -> bool:
        publisher.publish(CameraInfo(width=640, height=480))
        return bool(publisher.get_subscription_count() == 0)

    node.spin_until(known)
    (tmp_path / "loading").unlink()
    node.process.wait_for("active:")
    assert node.process.output.index("building 160x120") < node.process.output.index("active:")
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


def test_an_image_that_comes_after_its_calibration_waits_as_well(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    for name in ("160x120", "loading"):
        (tmp_path / name).touch()
    infos = observer.node.create_publisher(CameraInfo, "/sized/camera_info", RELIABLE)
    images = observer.node.create_publisher(Image, "/sized/image", RELIABLE)
    node = gated_node(spawn, observer, small_model, tmp_path)
    labels = observer.subscribe(Image, node.topic("label"), RELIABLE)
    node.spin_until(lambda: infos.get_subscription_count() == images.get_subscription_count() == 1)

    def known() -> bool:
        infos.publish(CameraInfo(width=64, height=48))
        return bool(infos.get_subscription_count() == 0)

    node.spin_until(known)
    # Once it knows of the listener; it subscribes to no image otherwise.
    node.spin_until(lambda: images.get_subscription_count() == 1)
    node.spin_for(0.5)
    assert images.get_subscription_count() == 1
    message = image()
    message.header.frame_id = "early"
    images.publish(message)
    node.spin_for(0.3)
    (tmp_path / "loading").unlink()
    node.spin_until(lambda: bool(labels))
    assert labels[0].header.frame_id == "early"
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


def image(width: int = 64, height: int = 48) -> Image:
    return Image(width=width, height=height, encoding="mono8", step=width, data=bytes(width * height))


def jpeg() -> CompressedImage:
    return compressed_message(
        Header(), cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes(), "jpeg"
    )


@pytest.mark.parametrize(
    ("transport", "topic", "broken", "whole"),
    [
        ("raw", "image", Image(width=640, height=480, encoding="mono8", step=640), image()),
        ("compressed", "image/compressed", CompressedImage(format="jpeg", data=b"no jpeg"), jpeg()),
    ],
)
def test_the_engine_is_built_while_it_is_configured_for_the_first_image(
    transport: str,
    topic: str,
    broken: Any,
    whole: Any,
    spawn: Any,
    observer: Any,
    small_model: Any,
    tmp_path: Path,
) -> None:
    for name in ("160x120", "loading"):
        (tmp_path / name).touch()
    publisher = observer.node.create_publisher(type(whole), f"/sized/{topic}", RELIABLE)
    node = gated_node(spawn, observer, small_model, tmp_path, image_transport=transport)
    labels = observer.subscribe(Image, node.topic("label"), 5)
    node.spin_until(lambda: publisher.get_subscription_count() == 1)
    # A match is known here before it is there.
    node.spin_for(0.5)
    publisher.publish(broken)
    whole.header.frame_id = "early"
    publisher.publish(whole)
    # The only one that is sent gets its mask, too.
    node.spin_for(0.3)
    (tmp_path / "loading").unlink()
    # The mask may be here before the line that the process wrote earlier.
    node.spin_until(lambda: bool(labels) and "active:" in node.process.output)
    assert node.process.output.index("building 160x120") < node.process.output.index("active:")
    assert node.process.output.count("building 160x120") == 1
    assert labels[0].header.frame_id == "early" and (labels[0].width, labels[0].height) == (64, 48)
    # Nothing is lost silently: the broken one came, and a newer one took its place.
    node.spin_until(lambda: node.count("frames received") == 2)
    assert node.count("frames dropped: replaced") == 1
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


def test_a_camera_that_sends_nothing_holds_up_no_start(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    (tmp_path / "160x120").touch()
    publisher = observer.node.create_publisher(Image, "/sized/image", RELIABLE)
    node = gated_node(spawn, observer, small_model, tmp_path)
    node.process.wait_for("active:")
    assert "building" not in node.process.output
    # Nobody listens to masks.
    node.spin_until(lambda: publisher.get_subscription_count() == 0)
    labels = observer.subscribe(Image, node.topic("label"), 5)
    Feeder(node).segment(image(), labels)
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0


def test_questions_are_answered_while_the_first_engine_is_built(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    node = gated_node(spawn, observer, small_model, tmp_path, input_width=64, input_height=48)
    node.process.wait_for("building 64x48")
    assert node.state() == "configuring"
    assert node.get_parameter("model") == str(small_model.path)
    names = observer.call(ListParameters, f"{node.name}/list_parameters", ListParameters.Request())
    assert "engine" in names.result.names
    # What would change something waits until the engine is there.
    client = observer.node.create_client(Trigger, f"{node.name}/reload")
    node.spin_until(client.service_is_ready)
    asked = client.call_async(Trigger.Request())
    assert node.state() == "configuring"
    assert not asked.done()
    (tmp_path / "64x48").touch()
    node.spin_until(asked.done)
    assert asked.result().success
    node.process.wait_for("active:")
    assert node.state() == "active"
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0
    assert "Traceback" not in node.process.output
