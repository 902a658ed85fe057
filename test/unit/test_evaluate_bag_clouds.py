"""The labelled clouds that an evaluation writes beside the masks, of depth images and of a lidar."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rosbags.rosbag2 import StoragePlugin, Writer
from support.street_bags import BEGIN_NS, HEIGHT, PERIOD_NS, TYPES, WIDTH, image, settings, street

from rt_segmentation.bags.reading import BagReader
from rt_segmentation.evaluation.bag.result import Evaluation
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import cloud_of_depth
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelManifest

FOCAL, CX, CY = 130.0, 79.5, 55.0
FRAMES = 3


def typed(kind: str, /, **fields: Any) -> Any:
    return TYPES.types[kind](**fields)


def header(stamp_ns: int, frame_id: str = "camera") -> Any:
    time = typed("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return typed("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def calibration(stamp_ns: int, width: int = WIDTH) -> Any:
    k = [FOCAL, 0.0, CX, 0.0, FOCAL, CY, 0.0, 0.0, 1.0]
    roi = typed(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return typed(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp_ns),
        height=HEIGHT,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=np.array(k),
        r=np.eye(3).reshape(-1),
        p=np.array([*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def depth_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).uniform(1, 20, (HEIGHT, WIDTH)).astype(np.float32)


def depth(stamp_ns: int, metres: np.ndarray, frame_id: str = "camera") -> Any:
    message = image(metres.view(np.uint8).reshape(HEIGHT, WIDTH * 4), stamp_ns, encoding="32FC1", width=WIDTH)
    message.header.frame_id = frame_id
    return message


def sweep(stamp_ns: int, points: np.ndarray) -> Any:
    fields = [
        typed("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=7, count=1)
        for i, name in enumerate("xyz")
    ]
    return typed(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns, "lidar"),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=points.astype(np.float32).view(np.uint8).reshape(-1),
        is_dense=True,
    )


def lidar_in_camera(stamp_ns: int) -> Any:
    """The lidar looks along its x and the camera along its z, from the same place."""
    transform = typed(
        "geometry_msgs/msg/Transform",
        translation=typed("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0),
        rotation=typed("geometry_msgs/msg/Quaternion", x=0.5, y=-0.5, z=0.5, w=0.5),
    )
    stamped = typed(
        "geometry_msgs/msg/TransformStamped",
        header=header(stamp_ns, "camera"),
        child_frame_id="lidar",
        transform=transform,
    )
    return typed("tf2_msgs/msg/TFMessage", transforms=[stamped])


def bag_of(path: Path, messages: Sequence[tuple[str, str, int, Any]]) -> Path:
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for topic, kind, recorded_ns, content in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], recorded_ns, TYPES.serialize_cdr(content, kind))
    return path


def recorded(own: Any, topic: str, kind: str, late_ns: int, width: int = WIDTH) -> list[Any]:
    """Images and calibrations of a drive, and what `own` gives for each."""
    messages = []
    for i in range(FRAMES):
        stamp = BEGIN_NS + i * PERIOD_NS
        messages.append(("/cam/camera_info", "sensor_msgs/msg/CameraInfo", stamp, calibration(stamp, width)))
        messages.append(("/cam/image", "sensor_msgs/msg/Image", stamp + 1, image(street(i)[0], stamp)))
        messages.append((topic, kind, stamp + late_ns, own(i, stamp)))
    return sorted(messages, key=lambda message: message[2])


def evaluate(model: ModelManifest, folder: Path, messages: Sequence[Any], **changes: Any) -> Evaluation:
    bag = bag_of(folder / "drive", messages)
    given = {"image_topic": "/cam/image", "label_topic": None, "write_bag": True, **changes}
    chosen = settings(model, folder / "out", **given)
    return evaluate_bags([bag], chosen, "rt_seg evaluate-bag", threading.Event(), lambda *_: None)


def written(folder: Path, topic: str) -> list[Any]:
    with BagReader(folder / "out" / "masks" / "0000_drive") as reader:
        return [message.content for message in reader.messages({topic})]


def test_each_mask_has_the_cloud_of_its_depth_image(small_model: ModelManifest, tmp_path: Path) -> None:
    # The depth image comes later than its image, and is stamped a little later.
    messages = recorded(
        lambda i, stamp: depth(stamp + 5_000_000, depth_of(i)),
        "/cam/depth",
        "sensor_msgs/msg/Image",
        PERIOD_NS + 7,
    )
    result = evaluate(small_model, tmp_path, messages, cloud_topic="cam/depth")
    assert not result.problems
    clouds, masks = written(tmp_path, "/small/points"), written(tmp_path, "/small/label")
    confidences = written(tmp_path, "/small/confidence")
    assert len(clouds) == len(masks) == FRAMES
    palette = load_label_set(small_model.label_set).palette()
    camera = Camera(WIDTH, HEIGHT, FOCAL, FOCAL, CX, CY)
    for i, (cloud, mask, confidence) in enumerate(zip(clouds, masks, confidences)):
        labels = mask.data.reshape(HEIGHT, WIDTH)
        certain = confidence.data.reshape(HEIGHT, WIDTH)
        expected = cloud_of_depth(depth_of(i), labels, camera, confidence=certain, rgb=palette[labels])
        assert bytes(cloud.data) == expected.tobytes()
        assert (cloud.height, cloud.width, cloud.point_step) == (HEIGHT, WIDTH, 32)
        assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "label", "confidence"]
        assert cloud.header.stamp.nanosec == (BEGIN_NS + i * PERIOD_NS + 5_000_000) % 10**9
        assert cloud.header.frame_id == "camera"


def test_a_lidar_s_points_get_the_labels_of_their_pixels(small_model: ModelManifest, tmp_path: Path) -> None:
    points = np.array([[5.0, 0.0, 0.0], [5.0, 1.0, -0.5], [-5.0, 0.0, 0.0]])
    messages = recorded(
        lambda _, stamp: sweep(stamp, points), "/lidar", "sensor_msgs/msg/PointCloud2", -PERIOD_NS // 3
    )
    messages.append(("/tf_static", "tf2_msgs/msg/TFMessage", BEGIN_NS + 3, lidar_in_camera(BEGIN_NS)))
    result = evaluate(small_model, tmp_path, messages, cloud_topic="/lidar")
    assert not result.problems
    clouds, masks = written(tmp_path, "/small/points"), written(tmp_path, "/small/label")
    assert len(clouds) == FRAMES
    for cloud, mask in zip(clouds, masks):
        labels = mask.data.reshape(HEIGHT, WIDTH)
        found = cloud.data.view(np.uint32).reshape(-1, 8)[:, 5]
        # 1 m to the left and 0.5 m below at 5 m.
        pixels = labels[round(CY), round(CX)], labels[round(CY + 13), round(CX - 26)]
        assert found.tolist() == [*pixels, 255] and cloud.header.frame_id == "lidar"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"late": PERIOD_NS // 2}, "the nearest stamp on /cam/depth is 0.050 s away from the image's"),
        ({"frame_id": "infrared"}, "The depth image is in frame 'infrared' and the mask in 'camera'"),
        ({"width": 2 * WIDTH}, "The camera_info is of 320x120 px and the mask of 160x120 px"),
    ],
)
def test_masks_without_a_cloud_are_counted_with_the_reason(
    small_model: ModelManifest, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    late_ns = change.get("late", 0)
    messages = recorded(
        lambda i, stamp: depth(stamp + late_ns, depth_of(i), change.get("frame_id", "camera")),
        "/cam/depth",
        "sensor_msgs/msg/Image",
        2,
        change.get("width", WIDTH),
    )
    result = evaluate(small_model, tmp_path, messages, cloud_topic="/cam/depth")
    (problem,) = result.problems
    assert f"{FRAMES} of {FRAMES} masks have no labelled cloud: {sentence}" in problem
    assert len(written(tmp_path, "/small/label")) == FRAMES and not written(tmp_path, "/small/points")


def test_what_cannot_give_clouds_is_refused(small_model: ModelManifest, tmp_path: Path) -> None:
    messages = recorded(lambda i, s: depth(s, depth_of(i)), "/cam/depth", "sensor_msgs/msg/Image", 2)
    with pytest.raises(EvaluationError, match="the bag has no topic /cam/deep; for cloud it has"):
        evaluate(small_model, tmp_path, messages, cloud_topic="/cam/deep")
    chosen = settings(small_model, tmp_path / "other", cloud_topic="/cam/depth")
    with pytest.raises(EvaluationError, match="--cloud-topic goes with --write-bag"):
        evaluate_bags([tmp_path / "drive"], chosen, "", threading.Event(), lambda *_: None)
