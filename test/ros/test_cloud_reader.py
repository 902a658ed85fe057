"""Cloud messages as ROS's own reader takes them, and colours as cameras send them."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import cloud_of_depth
from rt_segmentation.ros.cloud_messages import cloud_message, depth_of, mask_of, points_of, rgb_of
from rt_segmentation.ros.messages import image_message

HEIGHT, WIDTH = 36, 48


def test_sensor_msgs_py_reads_every_field() -> None:
    reader = pytest.importorskip("sensor_msgs_py.point_cloud2", reason="sensor_msgs_py is not installed")
    rng = np.random.default_rng(0)
    labels, confidence = (rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8) for _ in range(2))
    rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    depth = rng.uniform(0.5, 9, (HEIGHT, WIDTH)).astype(np.float32)
    depth[0, :5] = 0
    camera = Camera(WIDTH, HEIGHT, 60.0, 61.0, 23.5, 17.5)
    message = cloud_message(
        cloud_of_depth(depth, labels, camera, confidence=confidence, rgb=rgb), is_dense=False
    )
    points = reader.read_points(message)
    assert points.dtype.names == ("x", "y", "z", "rgb", "label", "confidence")
    np.testing.assert_array_equal(points["label"], labels.reshape(-1))
    np.testing.assert_allclose(points["confidence"], confidence.reshape(-1) / 255, rtol=1e-6)
    packed = np.ascontiguousarray(points["rgb"]).view(np.uint32)
    red, green, blue = (rgb.reshape(-1, 3)[:, channel].astype(np.uint32) for channel in range(3))
    np.testing.assert_array_equal(packed, red << 16 | green << 8 | blue)
    seen = reader.read_points(message, field_names=("x", "y", "z"), skip_nans=True)
    assert len(seen) == HEIGHT * WIDTH - 5
    np.testing.assert_array_equal(seen["z"], depth.reshape(-1)[5:])
    np.testing.assert_array_equal(points_of(message)[0, 5:, 2], depth[0, 5:])


@pytest.mark.parametrize(("height", "width"), [(27, 512), (1, 1)])
def test_masks_may_be_smaller_than_an_image_of_a_camera(height: int, width: int) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    labels, depth = np.ascontiguousarray(rgb[..., 0]), np.ones((height, width), np.uint16)
    assert np.array_equal(mask_of(image_message(Header(), labels, "mono8"), "mask"), labels)
    assert np.array_equal(rgb_of(image_message(Header(), rgb, "rgb8")), rgb)
    message = Image(height=height, width=width, step=2 * width, encoding="16UC1", data=depth.tobytes())
    assert np.array_equal(depth_of(message), depth)


@pytest.mark.parametrize("padding", [0, 4])
def test_colours_in_either_order_are_the_same(padding: int) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    assert np.array_equal(rgb_of(image_message(Header(), rgb, "rgb8")), rgb)
    rows = np.zeros((HEIGHT, 3 * WIDTH + padding), np.uint8)
    rows[:, : 3 * WIDTH] = rgb[..., ::-1].reshape(HEIGHT, -1)
    message = Image(height=HEIGHT, width=WIDTH, encoding="bgr8", step=rows.shape[1])
    message.data.frombytes(rows.tobytes())
    assert np.array_equal(rgb_of(message), rgb)
