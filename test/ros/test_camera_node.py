"""The camera as a process of its own, observed over DDS."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from rt_segmentation.data.synthetic import CAMERA_HEIGHT_M, StreetScene
from rt_segmentation.imaging.codec import decode_compressed
from rt_segmentation.ros.camera_parameters import PARAMETERS
from rt_segmentation.ros.parameters import to_yaml
from rt_segmentation.runtime.transforms import rotation_matrix

CAMERA = "rt_segmentation.ros.camera_node"
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)


def ros_args(**parameters: Any) -> list[str]:
    overrides = [["-p", f"{name}:={value}"] for name, value in parameters.items()]
    return ["--ros-args", *(part for override in overrides for part in override)]


def stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


def pixels(message: Image) -> np.ndarray:
    channels = message.step // message.width
    array = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, channels)
    return array[..., 0] if channels == 1 else array


def test_street_arrives_whole_with_its_true_labels(spawn: Any, observer: Any) -> None:
    count, rate_hz = 20, 20.0
    infos = observer.subscribe(CameraInfo, "camera_info", RELIABLE)
    labels = observer.subscribe(Image, "label", RELIABLE)
    images = observer.subscribe(Image, "image", RELIABLE)
    # 640x480x3 is above the 512 kB that Fast DDS takes without the setting for large messages.
    camera = spawn(
        CAMERA,
        *ros_args(
            count=count,
            rate_hz=rate_hz,
            seed=5,
            width=640,
            height=480,
            wait_for_subscribers=1,
            queue_depth=count,
        ),
    )
    observer.spin_until(lambda: min(len(images), len(labels), len(infos)) == count)
    assert camera.finish() == 0
    assert camera.output.splitlines().count(f"published {count} frames") == 1
    assert "Traceback" not in camera.output

    stamps = [stamp(message) for message in images]
    assert stamps == sorted(set(stamps))
    assert [stamp(message) for message in labels] == stamps
    assert [stamp(message) for message in infos] == stamps
    assert {message.header.frame_id for message in [*images, *labels, *infos]} == {"camera"}
    assert {message.encoding for message in images} == {"rgb8"}
    assert {message.encoding for message in labels} == {"mono8"}
    scene = StreetScene(5, 640, 480)
    for number, (image, label) in enumerate(zip(images, labels)):
        true_rgb, true_labels = scene.render(number / rate_hz)
        np.testing.assert_array_equal(pixels(label), true_labels)
        np.testing.assert_array_equal(pixels(image), true_rgb)


def test_the_street_s_camera_and_depth_are_known(spawn: Any, observer: Any) -> None:
    images, infos, depths = (
        observer.subscribe(kind, topic, RELIABLE)
        for kind, topic in ((Image, "image"), (CameraInfo, "camera_info"), (Image, "depth"))
    )
    spawn(CAMERA, *ros_args(width=128, height=72, seed=3, rate_hz=5.0, frame_id="front"))
    observer.spin_until(lambda: bool(depths))
    depth = depths[0]
    observer.spin_until(lambda: any(image.header == depth.header for image in images))
    number = next(number for number, image in enumerate(images) if image.header == depth.header)
    scene = StreetScene(3, 128, 72)
    # The camera may have begun before it was heard.
    first = next(n for n in range(50) if np.array_equal(pixels(images[0]), scene.render(n / 5.0)[0]))
    time_s = (first + number) / 5.0
    assert (depth.encoding, depth.step, depth.header.frame_id) == ("32FC1", 4 * 128, "front")
    np.testing.assert_array_equal(
        np.frombuffer(depth.data, np.float32).reshape(72, 128), scene.render_depth(time_s)
    )
    info = next(info for info in infos if info.header == depth.header)
    focal, cx, cy = scene.pinhole(time_s)
    np.testing.assert_allclose(info.k, [focal, 0, cx, 0, focal, cy, 0, 0, 1], rtol=1e-12)


def test_the_street_s_camera_is_over_the_robot(spawn: Any, observer: Any) -> None:
    messages = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    told = observer.subscribe(messages.TFMessage, "/tf_static", latched)
    spawn(CAMERA, *ros_args(width=128, height=72, frame_id="front"))
    observer.spin_until(lambda: bool(told))
    (transform,) = told[0].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("base_link", "front")
    assert transform.transform.translation.z == CAMERA_HEIGHT_M
    turn = transform.transform.rotation
    # The camera's z is the robot's x, its x is the robot's -y.
    rotation = rotation_matrix((turn.x, turn.y, turn.z, turn.w))
    np.testing.assert_allclose(rotation @ np.eye(3)[2], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation @ np.eye(3)[0], [0, -1, 0], atol=1e-12)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_encodings_show_the_same_picture(spawn: Any, observer: Any, encoding: str) -> None:
    raw = observer.subscribe(Image, "image", RELIABLE)
    files = observer.subscribe(CompressedImage, "image/compressed", RELIABLE)
    for image_transport in ("raw", "compressed"):
        common = {"width": 128, "height": 72, "wait_for_subscribers": 1, "encoding": encoding}
        spawn(CAMERA, *ros_args(**common, image_transport=image_transport))
    observer.spin_until(lambda: bool(raw and files))
    rgb = StreetScene(0, 128, 72).render(0.0)[0]
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    expected = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": gray}[encoding]
    assert raw[0].encoding == encoding
    np.testing.assert_array_equal(pixels(raw[0]), expected)

    picture = decode_compressed(files[0].format, files[0].data).planes[0].squeeze()
    assert files[0].format.split("; ")[0] == encoding
    # Colour JPEGs decode to BGR whatever the encoding was.
    wanted = gray if encoding == "mono8" else rgb[..., ::-1]
    assert picture.shape == wanted.shape
    assert np.abs(picture.astype(int) - wanted).mean() < 8.0


def test_one_remap_moves_both_transports(spawn: Any, observer: Any) -> None:
    files = observer.subscribe(CompressedImage, "/front/image/compressed", RELIABLE)
    common = ros_args(width=128, height=72, image_transport="compressed")
    spawn(CAMERA, *common, "-r", "image:=/front/image")
    observer.spin_until(lambda: bool(files))


@pytest.fixture()
def folder(tmp_path: Path) -> Iterator[Path]:
    """Four images, the second corrupt, with labels; image and label number n have the value 10 n."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number in range(4):
        value = 10 * number
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.full((40, 60, 3), value, np.uint8))
        cv2.imwrite(str(tmp_path / "labels" / f"{number}.png"), np.full((40, 60), value, np.uint8))
    (tmp_path / "images" / "1.png").write_bytes(b"\x89PNG but no further")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    # A name that is not UTF-8, as from a zip made elsewhere; OpenCV would end the process over it.
    for part in ("images", "labels"):
        with suppress(OSError):
            (tmp_path / part / "3.png").rename(tmp_path / part / os.fsdecode(b"\xb3.png"))
    yield tmp_path


def test_a_path_that_ros_cannot_carry_is_one_sentence(spawn: Any, tmp_path: Path) -> None:
    source = os.fsencode(f"source:={tmp_path}/") + b"\xb3"
    camera = spawn(CAMERA, "--ros-args", "-p", os.fsdecode(source))
    assert camera.finish() == 2
    assert r"\xb3' is not UTF-8" in camera.output and "Traceback" not in camera.output


def test_camera_info_states_the_field_of_view(spawn: Any, observer: Any, folder: Path) -> None:
    infos = observer.subscribe(CameraInfo, "camera_info", RELIABLE)
    spawn(
        CAMERA,
        *ros_args(source=folder / "images", width=128, height=72, horizontal_fov_deg=90.0, frame_id="front"),
    )
    observer.spin_until(lambda: bool(infos))
    info = infos[0]
    assert (info.width, info.height, info.header.frame_id) == (128, 72, "front")
    # At 90 degrees the focal length is half the width.
    np.testing.assert_allclose(info.k, [64, 0, 63.5, 0, 64, 35.5, 0, 0, 1], rtol=1e-12)
    np.testing.assert_allclose(np.reshape(info.p, (3, 4))[:, :3].ravel(), info.k)
    assert (info.distortion_model, list(info.d)) == ("plumb_bob", [0.0] * 5)


def test_folder_skips_a_corrupt_file_and_says_so(spawn: Any, observer: Any, folder: Path) -> None:
    labels = observer.subscribe(Image, "label", RELIABLE)
    images = observer.subscribe(Image, "image", RELIABLE)
    source = {"source": folder / "images", "labels": folder / "labels", "width": 120, "loop": False}
    camera = spawn(CAMERA, *ros_args(**source, rate_hz=50.0, wait_for_subscribers=1))
    observer.spin_until(lambda: len(images) == len(labels) == 3)
    assert camera.finish() == 0
    assert "published 3 frames" in camera.output
    assert "skipped '1.png'" in camera.output
    assert [int(pixels(message).max()) for message in images] == [0, 20, 30]
    assert [int(pixels(message).max()) for message in labels] == [0, 20, 30]
    assert {(message.width, message.height) for message in [*images, *labels]} == {(120, 80)}


def test_loop_starts_the_folder_again(spawn: Any, observer: Any, folder: Path) -> None:
    images = observer.subscribe(Image, "image", RELIABLE)
    camera = spawn(CAMERA, *ros_args(source=folder / "images", count=7, rate_hz=50.0, wait_for_subscribers=1))
    observer.spin_until(lambda: len(images) == 7)
    assert camera.finish() == 0
    assert [int(pixels(message).max()) for message in images] == [0, 20, 30, 0, 20, 30, 0]


def test_video_is_published_to_its_end(spawn: Any, observer: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("OpenCV writes no MJPG video here")
    for value in (40, 120, 200):
        writer.write(np.full((48, 64, 3), (0, 0, value), np.uint8))
    writer.release()
    images = observer.subscribe(Image, "image", RELIABLE)
    camera = spawn(CAMERA, *ros_args(source=path, loop=False, rate_hz=50.0, wait_for_subscribers=1))
    observer.spin_until(lambda: len(images) == 3)
    assert camera.finish() == 0
    for message, value in zip(images, (40, 120, 200)):
        # Red in the BGR file is the first channel of an rgb8 message.
        np.testing.assert_allclose(pixels(message).mean(axis=(0, 1)), [value, 0, 0], atol=4)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"sede": 3}, "unknown parameter 'sede'; did you mean 'seed'?"),
        ({"rate_hz": 0}, "parameter 'rate_hz' is 0.0, it must be from 0.01 to 1000.0 Hz"),
        (
            {"encoding": "rgb"},
            "parameter 'encoding' is 'rgb', it must be one of rgb8, bgr8, mono8; did you mean 'rgb8'?",
        ),
        ({"width": 10, "height": 10}, "the size is 10x10; it must be at least 64x48"),
        (
            {"source": "/no/such"},
            "source '/no/such' is neither 'street' nor an existing folder or video file",
        ),
        ({"labels": "/some"}, "labels '/some' go with a folder of images, and the source is 'street'"),
        ({"use_sim_time": 3}, "use_sim_time"),
    ],
)
def test_bad_start_is_one_sentence_and_exit_code_2(spawn: Any, parameters: Any, sentence: str) -> None:
    camera = spawn(CAMERA, *ros_args(**parameters))
    assert camera.finish() == 2
    lines = camera.output.splitlines()
    assert len(lines) == 1
    assert "[FATAL]" in lines[0]
    assert sentence in lines[0]


def test_bad_folders_are_named(spawn: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    (corrupt / "a.jpg").write_bytes(b"no image")
    no_video = tmp_path / "video.mp4"
    no_video.write_bytes(b"no video")
    for source, sentence in (
        (empty, f"folder '{empty}' has no images"),
        (corrupt, f"none of the 1 images of {corrupt} could be read"),
        (no_video, f"'{no_video}' is not a video that OpenCV can read"),
    ):
        camera = spawn(CAMERA, *ros_args(source=source))
        assert camera.finish() == 2
        assert sentence in camera.output
        assert "Traceback" not in camera.output


def test_a_simulation_s_time_that_does_not_come_is_said(spawn: Any) -> None:
    camera = spawn(CAMERA, *ros_args(width=128, height=72, use_sim_time=True))
    camera.wait_for(
        "no image is published yet: use_sim_time is true, and nobody publishes the time on /clock"
    )
    camera.send(signal.SIGINT)
    assert camera.finish() == 0


@pytest.mark.parametrize(
    "signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2, [signal.SIGINT, signal.SIGTERM]]
)
def test_signals_end_it_cleanly(spawn: Any, observer: Any, signals: list[signal.Signals]) -> None:
    images = observer.subscribe(Image, "image", RELIABLE)
    camera = spawn(CAMERA, *ros_args(width=128, height=72))
    observer.spin_until(lambda: bool(images))
    camera.send(signals[0])
    for number in signals[1:]:
        camera.send(number)
        # Another one comes while it cleans up.
        camera.wait_for("published")
        if camera.is_running():
            camera.send(number)
    assert camera.finish() == 0
    assert "Traceback" not in camera.output
    assert "frames" in camera.output


def test_params_file_of_the_defaults_starts_the_camera(spawn: Any, tmp_path: Path) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(to_yaml("/**", PARAMETERS))
    camera = spawn(CAMERA, "--ros-args", "--params-file", str(file), "-p", "count:=1")
    assert camera.finish() == 0
    assert "published 1 frames" in camera.output
