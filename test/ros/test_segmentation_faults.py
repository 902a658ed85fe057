"""What a camera may send, good and bad, and what the node makes of it."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Float64
from support.node_under_test import ENGINE, Feeder, NodeUnderTest, offline, pixels
from support.streets import street_scene

from rt_segmentation.imaging.codec import decode_compressed, encode_jpeg
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.render import colorize, overlay
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest

WIDTH, HEIGHT = 160, 120
RGB = street_scene(3, WIDTH, HEIGHT).render(0.0)[0]
JPEG = encode_jpeg(RGB, 90)


@pytest.fixture(scope="module")
def segmenter(small_model: ModelManifest) -> Segmenter:
    return Segmenter.build(small_model, **ENGINE)


@pytest.fixture(scope="module")
def node(stage: Any, small_model: ModelManifest) -> NodeUnderTest:
    return NodeUnderTest(stage.spawn, stage.observer, "/faults", small_model)


@pytest.fixture()
def feeder(node: NodeUnderTest) -> Iterator[Feeder]:
    assert node.set_parameter("image_transport", "raw").successful
    feeder = Feeder(node)
    yield feeder
    feeder.close()


def image(encoding: str = "rgb8", data: bytes = RGB.tobytes(), step: int = 3 * WIDTH, **fields: Any) -> Image:
    return Image(
        **{"width": WIDTH, "height": HEIGHT, "encoding": encoding, "step": step, **fields}, data=data
    )


def jpeg(data: bytes, image_format: str = "rgb8; jpeg compressed bgr8") -> CompressedImage:
    return CompressedImage(format=image_format, data=data)


BAD_IMAGES = {
    "truncated data": (image(data=RGB.tobytes()[:-1]), "truncated", "has 57599 bytes of data"),
    "no data": (image(data=b""), "truncated", "has 0 bytes of data"),
    "short step": (image(step=3 * WIDTH - 1), "bad_step", "step is 479 bytes"),
    "no size": (image(width=0, height=0, step=0, data=b""), "bad_size", "0x0"),
    "1x1": (image(width=1, height=1, step=3, data=b"abc"), "bad_size", "1x1"),
    "huge": (image(width=8192, height=8192, step=3 * 8192, data=bytes(100)), "bad_size", "8192x8192"),
    "overflowing": (image(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1), "bad_size", "4294967295"),
    "unknown encoding": (image(encoding="rgb9"), "unknown_encoding", "'rgb9' is not known"),
}
BAD_FILES = {
    "cut JPEG": (jpeg(JPEG[: len(JPEG) // 2]), "undecodable", "JPEG is truncated"),
    "no JPEG": (jpeg(b"\x00\x01\x02\x03" * 100), "undecodable", "must be a whole JPEG"),
    "empty": (jpeg(b""), "undecodable", "must be a whole JPEG"),
    "depth": (jpeg(JPEG, "32FC1; compressedDepth"), "unknown_encoding", "depth"),
}


@pytest.mark.parametrize("bad", [BAD_IMAGES, BAD_FILES], ids=["raw", "compressed"])
def test_bad_frames_are_counted_and_explained_and_the_next_good_one_is_segmented(
    listen: Any, node: NodeUnderTest, segmenter: Segmenter, bad: dict[str, tuple[Any, str, str]]
) -> None:
    compressed = bad is BAD_FILES
    assert node.set_parameter("image_transport", "compressed" if compressed else "raw").successful
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node, CompressedImage if compressed else Image)
    good = jpeg(JPEG) if compressed else image()
    expected = offline(segmenter, good).labels
    node.fresh_status()
    before = {reason: node.count(f"frames dropped: {reason}") for _, reason, _ in bad.values()}
    written = len(node.process.output)
    for number, (message, reason, sentence) in enumerate(bad.values()):
        with pytest.raises(ImageError, match=re.escape(sentence)):
            offline(segmenter, message)
        counted = node.count(f"frames dropped: {reason}")
        feeder.publish(message)
        node.spin_until(lambda r=reason, c=counted: node.count(f"frames dropped: {r}") > c)
        assert sentence in node.statuses[-1].message
        np.testing.assert_array_equal(feeder.segment(good, labels), expected)
        assert len(labels) == number + 1
    first = next(sentence for _, _, sentence in bad.values())
    assert any("[WARN]" in line and first in line for line in node.process.output[written:].splitlines())
    dropped = Counter(reason for _, reason, _ in bad.values())
    assert {reason: node.count(f"frames dropped: {reason}") - before[reason] for reason in before} == dropped
    assert "Traceback" not in node.process.output
    feeder.close()


def yuv422_of(rgb: np.ndarray) -> bytes:
    """UYVY: the chroma of each pair of pixels is its first one's."""
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    return np.stack((yuv[:, ::2, 1], yuv[:, ::2, 0], yuv[:, ::2, 2], yuv[:, 1::2, 0]), -1).tobytes()


def nv12_of(rgb: np.ndarray) -> bytes:
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV)
    return yuv[..., 0].tobytes() + yuv[::2, ::2, 1:].tobytes()


def rggb_of(rgb: np.ndarray) -> bytes:
    mosaic = rgb[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[::2, ::2, 0], rgb[1::2, 1::2, 2]
    return mosaic.tobytes()


GRAY = cv2.cvtColor(RGB, cv2.COLOR_RGB2GRAY)
ENCODINGS = [
    image(),
    image("bgr8", RGB[..., ::-1].tobytes()),
    image("rgba8", np.dstack((RGB, GRAY)).tobytes(), 4 * WIDTH),
    image("mono8", GRAY.tobytes(), WIDTH),
    # Of a camera of 12 bits, and of one of 16: the bits that are guessed only grow.
    image("mono16", (GRAY.astype("<u2") << 4).tobytes(), 2 * WIDTH),
    image("mono16", (GRAY.astype(">u2") << 8).astype(">u2").tobytes(), 2 * WIDTH, is_bigendian=1),
    # The order of colours of OpenCV's own types.
    image("8UC4", np.dstack((RGB[..., ::-1], GRAY)).tobytes(), 4 * WIDTH),
    image("uyvy", yuv422_of(RGB), 2 * WIDTH),
    image("nv12", nv12_of(RGB), WIDTH),
    image("bayer_rggb8", rggb_of(RGB), WIDTH),
    # Padded rows.
    image("mono8", np.pad(GRAY, ((0, 0), (0, 32))).tobytes(), WIDTH + 32),
]


def test_every_encoding_becomes_the_mask_that_is_made_offline(
    listen: Any, node: NodeUnderTest, feeder: Feeder, segmenter: Segmenter
) -> None:
    labels = listen(Image, node.topic("label"))
    expected = [offline(segmenter, message).labels for message in ENCODINGS]
    for number, message in enumerate(ENCODINGS):
        np.testing.assert_array_equal(feeder.segment(message, labels), expected[number])
    rgb, bgr, rgba, mono8, mono12, mono16, bgra, *_, padded = expected
    np.testing.assert_array_equal(bgr, rgb)
    np.testing.assert_array_equal(rgba, rgb)
    np.testing.assert_array_equal(mono16, mono8)
    np.testing.assert_array_equal(mono12, mono8)
    np.testing.assert_array_equal(bgra, rgb)
    np.testing.assert_array_equal(padded, mono8)
    assert (mono8 != rgb).mean() > 0.05


def test_the_range_of_16_bit_images_is_guessed_with_a_warning_or_given(
    listen: Any, node: NodeUnderTest, feeder: Feeder, segmenter: Segmenter
) -> None:
    labels = listen(Image, node.topic("label"))
    ten_bits = image("16UC1", (GRAY.astype("<u2") << 2).tobytes(), 2 * WIDTH)
    expected = offline(segmenter, image("mono8", GRAY.tobytes(), WIDTH)).labels
    # The guess begins anew with the parameter.
    assert node.set_parameter("image_bits", "10").successful
    np.testing.assert_array_equal(feeder.segment(ten_bits, labels), expected)
    written = len(node.process.output)
    assert node.set_parameter("image_bits", "auto").successful
    np.testing.assert_array_equal(feeder.segment(ten_bits, labels), expected)
    node.spin_until(lambda: "taken for 10 bits" in node.process.output[written:])
    assert "[WARN]" in node.process.output[written:]
    # A number is taken for the choice that is written so.
    assert node.set_parameter("image_bits", 12).successful
    dark = offline(segmenter, image("mono8", (GRAY >> 2).tobytes(), WIDTH)).labels
    np.testing.assert_array_equal(feeder.segment(ten_bits, labels), dark)
    assert not node.set_parameter("image_bits", 11).successful
    assert node.set_parameter("image_bits", "auto").successful


def test_a_jpeg_that_lacks_only_its_end_marker_is_segmented(
    listen: Any, node: NodeUnderTest, segmenter: Segmenter
) -> None:
    assert node.set_parameter("image_transport", "compressed").successful
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node, CompressedImage)
    expected = offline(segmenter, jpeg(JPEG)).labels
    np.testing.assert_array_equal(feeder.segment(jpeg(JPEG[:-2]), labels), expected)
    feeder.close()


def test_outputs_belong_together(
    listen: Any, node: NodeUnderTest, feeder: Feeder, segmenter: Segmenter
) -> None:
    assert node.set_parameter("overlay_opacity", 0.25).successful
    names = ("label", "confidence", "color", "overlay")
    images = {name: listen(Image, node.topic(name)) for name in names}
    files = {
        name: listen(CompressedImage, node.topic(f"{name}/compressed"))
        for name in ("label", "color", "overlay")
    }
    infos = listen(CameraInfo, node.topic("camera_info"))
    latencies = listen(Float64, node.topic("latency_ms"))
    info_publisher = node.observer.node.create_publisher(CameraInfo, "/faults/camera_info", 5)
    node.spin_until(lambda: info_publisher.get_subscription_count() == 1)
    outputs = [*images.values(), *files.values(), infos]
    message = image()
    info = CameraInfo(width=WIDTH, height=HEIGHT, k=[150.0, 0.0, 80.0, 0.0, 150.0, 60.0, 0.0, 0.0, 1.0])
    # The first frames come while the topics are still being discovered.
    while not all(output and output[-1].header == message.header for output in outputs):
        info_publisher.publish(info)
        node.spin_for(0.3)
        feeder.segment(message, images["label"])
        node.spin_for(1.0)

    expected = offline(segmenter, message)
    palette = segmenter.config.label_set.palette()
    colors = colorize(expected.labels, palette)
    np.testing.assert_array_equal(pixels(images["label"][-1]), expected.labels)
    assert expected.confidence is not None
    # How torch shares an exponential among threads moves a rounding here and there.
    np.testing.assert_allclose(pixels(images["confidence"][-1]), expected.confidence, rtol=0, atol=1)
    np.testing.assert_array_equal(pixels(images["color"][-1]), palette[expected.labels])
    blended = overlay(RGB, expected.labels, palette, 0.25)
    np.testing.assert_array_equal(pixels(images["overlay"][-1]), blended)
    encodings = [images[name][-1].encoding for name in names]
    assert encodings == ["mono8", "mono8", "rgb8", "rgb8"]

    pictures = {name: decode_compressed(f[-1].format, f[-1].data) for name, f in files.items()}
    np.testing.assert_array_equal(pictures["label"].planes[0].squeeze(), expected.labels)
    assert [files[name][-1].format for name in ("label", "color")] == [
        "mono8; png compressed ",
        "rgb8; jpeg compressed bgr8",
    ]
    for name, truth in (("color", colors), ("overlay", blended)):
        # As lossy as a JPEG of this picture is, and not more: channels in their places.
        as_file = cv2.imdecode(np.frombuffer(encode_jpeg(truth, 90), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(pictures[name].planes[0], as_file)
    assert (infos[-1].width, infos[-1].height, infos[-1].k[0]) == (WIDTH, HEIGHT, 150.0)
    assert infos[-1].header.frame_id.startswith("lens_")
    node.spin_until(lambda: bool(latencies))
    assert all(latency.data > 0 for latency in latencies)


def test_opacity_changes_while_the_node_runs(listen: Any, node: NodeUnderTest, feeder: Feeder) -> None:
    overlays = listen(Image, node.topic("overlay"))
    labels = listen(Image, node.topic("label"))
    for opacity in (0.0, 1.0):
        assert node.set_parameter("overlay_opacity", opacity).successful
        message = image()
        # The first masks come while the topic is still being discovered.
        while not (overlays and overlays[-1].header == message.header):
            feeder.segment(message, labels)
            node.spin_for(1.0)
    np.testing.assert_array_equal(pixels(overlays[0]), RGB)
    assert (pixels(overlays[-1]) != RGB).mean() > 0.5


def test_what_the_middleware_loses_is_counted(listen: Any, node: NodeUnderTest, feeder: Feeder) -> None:
    count = 200
    labels = listen(Image, node.topic("label"))
    # Gaps show between a camera's messages: the first must have come.
    feeder.segment(image(), labels)
    node.fresh_status()
    keys = ("frames received", "messages lost by the middleware")
    received, lost = (node.count(key) for key in keys)
    # The node sleeps through more messages than the queues on both sides hold.
    node.process.send(signal.SIGSTOP)
    for _ in range(count):
        feeder.publish(image())
    node.process.send(signal.SIGCONT)
    node.spin_until(lambda: sum(node.count(key) for key in keys) == received + lost + count)
    assert node.count("messages lost by the middleware") > lost
    node.fresh_status()
    assert sum(node.count(key) for key in keys) == received + lost + count


FAKE_CV_BRIDGE = """
import numpy as np

class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        depth = np.frombuffer(message.data, np.float32).reshape(message.height, message.width)
        return np.repeat(depth.astype(np.uint8)[..., None], 3, 2)
"""


def test_cv_bridge_is_asked_for_an_encoding_that_is_not_ours(
    stage: Any, listen: Any, small_model: ModelManifest, segmenter: Segmenter, tmp_path: Path
) -> None:
    (tmp_path / "cv_bridge.py").write_text(FAKE_CV_BRIDGE)
    path = os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"]))
    node = NodeUnderTest(
        stage.spawn, stage.observer, "/bridge", small_model, environment={"PYTHONPATH": path}
    )
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    message = image("gray32", GRAY.astype(np.float32).tobytes(), 4 * WIDTH)
    mono = image("mono8", GRAY.tobytes(), WIDTH)
    np.testing.assert_array_equal(feeder.segment(message, labels), offline(segmenter, mono).labels)
    feeder.close()
