"""The names of a mask's classes, by label_set and by label_info, in the cloud and the ground node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, LaserScan
from support.cloud_under_test import HEIGHT, PATIENCE_S, WIDTH, Cloud, calibration, frame, of
from support.node_under_test import RELIABLE, ros_args, set_parameter

from rt_segmentation.groups import load_names
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.labels import load_label_set

CLOUD, GROUND = "rt_segmentation.ros.cloud_node", "rt_segmentation.ros.ground_node"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CAMVID, DRIVING = load_label_set("camvid11").names, load_names("camvid11/driving").names
# Trees are 5 of the one and 3, nature, of the other.
TREES, NATURE = CAMVID.index("Tree"), DRIVING.index("nature")


def told(names: tuple[str, ...]) -> Any:
    """What a LabelInfo says, where its package need not be installed."""
    return SimpleNamespace(class_map=[SimpleNamespace(class_id=i, class_name=n) for i, n in enumerate(names)])


@pytest.fixture()
def made(ros_environment: None) -> Iterator[Callable[..., Any]]:
    """A node in this process."""
    import rclpy

    nodes: list[Any] = []

    def make(node: type, **parameters: Any) -> Any:
        rclpy.init(args=ros_args("/inner", **parameters))
        nodes.append(node())
        nodes[-1].start()
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def set_of(label: np.ndarray) -> dict[str, Image]:
    metres = np.ones(label.shape, np.float32)
    return {"label": of(label, "mono8"), "depth": of(metres, "32FC1")}


def left(node: Any, label: np.ndarray) -> set[int]:
    """The classes of a mask that have points."""
    words = np.frombuffer(node._made(set_of(label)).data, np.float32).reshape(-1, 8)
    return set(words.view(np.uint32)[np.isfinite(words[:, 0]), 5].tolist())


def test_a_cloud_is_not_made_of_masks_whose_ids_mean_something_else(made: Callable[..., Any]) -> None:
    from rt_segmentation.ros.cloud_node import CloudNode

    node = made(CloudNode, label_set="camvid11", drop_classes="[tree]")
    node._calibrations.take(calibration())
    label = np.resize(np.arange(6, dtype=np.uint8), (HEIGHT, WIDTH))
    # Nobody says what the masks have.
    assert left(node, label) == {*range(6)} - {TREES}
    node._names.take(told(DRIVING))
    with pytest.raises(
        ImageError,
        match=r"label_set is 'camvid11', in which 0 is Sky, and in the masks it is traversable, as "
        r".*label_info says: set label_set to what the masks have, as camvid11/driving",
    ) as caught:
        node._made(set_of(label))
    assert caught.value.reason == "other_classes"
    # The segmentation node has another model.
    node._names.take(told(CAMVID))
    assert left(node, label) == {*range(6)} - {TREES}
    # What label_info leaves out does not contradict, nor do capitals.
    node._names.take(told(tuple(name.upper() for name in CAMVID[:3])))
    assert left(node, label) == {*range(6)} - {TREES}
    # One that has the names in other places does.
    node._names.take(told(("Building", *["other"] * 20)))
    with pytest.raises(ImageError, match="in which 0 is Sky, and in the masks it is Building"):
        node._made(set_of(label))


def test_a_name_that_only_stands_elsewhere_contradicts(made: Callable[..., Any]) -> None:
    from rt_segmentation.ros.cloud_node import CloudNode

    node = made(CloudNode, label_set="camvid11", drop_classes="[tree]")
    node._names.take(SimpleNamespace(class_map=[SimpleNamespace(class_id=40, class_name="Tree")]))
    with pytest.raises(ImageError, match="in which 40 is nothing, and in the masks it is Tree"):
        node._made(set_of(np.zeros((HEIGHT, WIDTH), np.uint8)))


def test_ids_are_taken_as_they_are_whatever_label_info_says(made: Callable[..., Any]) -> None:
    from rt_segmentation.ros.cloud_node import CloudNode

    node = made(CloudNode, label_set="camvid11", keep_classes="[0, 3]", drop_classes="[3]")
    node._calibrations.take(calibration())
    assert node._settings["keep_classes"] == ["0", "3"]
    assert left(node, np.resize(np.arange(6, dtype=np.uint8), (HEIGHT, WIDTH))) == {0}
    # So nobody need say what they are called.
    assert not node._names.wanted and not node._names.missing


def test_ground_is_not_sought_in_masks_whose_ids_mean_something_else(made: Callable[..., Any]) -> None:
    from rt_segmentation.ros.ground_node import GroundNode

    node = made(GroundNode, label_set="camvid11")
    road = CAMVID.index("Road")
    assert node._ground_table()[road] == 1
    node._names.take(told(DRIVING))
    with pytest.raises(
        ImageError, match="label_set is 'camvid11', in which 0 is Sky, and in the masks it is"
    ):
        node._made(of(np.zeros((8, 8), np.uint8), "mono8"))
    node._names.take(told(CAMVID))
    assert node._ground_table()[road] == 1


def test_ground_by_ids_needs_no_names(made: Callable[..., Any]) -> None:
    from rt_segmentation.ros.ground_node import GroundNode

    node = made(GroundNode, ground_classes="[3, 4]")
    table = node._ground_table()
    assert np.flatnonzero(table == 1).tolist() == [3, 4] and table[255] == 0


@pytest.mark.parametrize(
    ("module", "name", "sentence"),
    [
        (CLOUD, "keep_classes", "holds '256', it must be an id from 0 to 255"),
        (GROUND, "ground_classes", "'255' is no class's id, they go from 0 to 254"),
    ],
)
def test_ids_that_no_class_can_have_stop_the_start(
    stage: Any, tmp_path: Path, module: str, name: str, sentence: str
) -> None:
    bad = sentence.split("'")[1]
    path = tmp_path / "robot.yaml"
    path.write_text(f"/**:\n  ros__parameters:\n    {name}: [0, {bad}]\n")
    process = stage.spawn(module, "--ros-args", "--params-file", str(path))
    assert process.finish() == 2
    assert f"parameter '{name}'" in process.output and sentence in process.output


def test_a_params_file_and_the_service_take_ids_without_quotes(stage: Any, tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("/**:\n  ros__parameters:\n    keep_classes: [0, 3]\n")
    node = Cloud(stage, "/by_ids", arguments=("--params-file", str(path)))
    label = np.resize(np.arange(6, dtype=np.uint8), (HEIGHT, WIDTH))
    cloud = node.made_of(**frame(**set_of(label)))
    words = np.frombuffer(cloud.data, np.float32).reshape(-1, 8)
    assert set(words.view(np.uint32)[np.isfinite(words[:, 0]), 5].tolist()) == {0, 3}
    same, other = (
        set_parameter(stage.observer, "/by_ids/semantic_cloud_node", "keep_classes", ids)
        for ids in ([0, 3], [4])
    )
    assert same.successful, same.reason
    assert not other.successful and 'start the node again with keep_classes:=["4"]' in other.reason


class Labelled(Cloud):
    """A cloud node, and who names its masks' classes."""

    def __init__(self, stage: Any, namespace: str, names: tuple[str, ...], **parameters: Any) -> None:
        messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
        self._messages, node = messages, stage.observer.node
        self._info = node.create_publisher(messages.LabelInfo, f"{namespace}/label_info", LATCHED)
        self.name(names)
        super().__init__(stage, namespace, use_confidence=False, use_color=False, **parameters)

    def name(self, names: tuple[str, ...]) -> None:
        """Say what the ids are called."""
        classes = [self._messages.VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)]
        self._info.publish(self._messages.LabelInfo(class_map=classes))


def test_label_info_names_the_classes_of_a_cloud(stage: Any) -> None:
    node = Labelled(stage, "/named", DRIVING, drop_classes="[nature]")
    label = np.resize(np.arange(5, dtype=np.uint8), (HEIGHT, WIDTH))

    def left_now() -> set[int]:
        messages = {**set_of(label), "camera_info": calibration()}
        words = np.frombuffer(node.made_of(**messages).data, np.float32).reshape(-1, 8)
        return set(words.view(np.uint32)[np.isfinite(words[:, 0]), 5].tolist())

    assert left_now() == {*range(5)} - {NATURE}
    # Another model.
    node.name(("a", "nature", "b"))
    node.spin_for(0.5)
    assert left_now() == {*range(5)} - {1}
    node.name(CAMVID)
    node.spin_for(0.5)
    node.send(**set_of(label), camera_info=calibration())
    node.says(
        "'drop_classes' holds 'nature', it must be an id from 0 to 255 or a class's name; the mask has Sky"
    )


def test_a_cloud_with_another_label_set_than_its_masks_says_so_and_has_no_points(stage: Any) -> None:
    node = Labelled(stage, "/grouped", DRIVING, label_set="camvid11", drop_classes="[tree]")
    messages = {**set_of(np.full((HEIGHT, WIDTH), TREES, np.uint8)), "camera_info": calibration()}
    node.send(**messages)
    node.says("label_set is 'camvid11', in which 0 is Sky, and in the masks it is traversable, as /grouped")
    node.spin_until(lambda: int(node.values().get("sets dropped: other_classes", 0)) > 0)
    # It holds though no mask comes, and is said once.
    node.spin_for(5.0)
    assert node.process.output.count("label_set is 'camvid11'") == 1
    assert not node.clouds
    node.name(CAMVID)
    node.spin_for(0.5)
    words = np.frombuffer(node.made_of(**messages).data, np.float32).reshape(-1, 8)
    assert np.isnan(words[:, 0]).all()


def test_masks_that_come_before_label_info_wait_for_it(made: Callable[..., Any]) -> None:
    from rt_segmentation.ros.cloud_node import CloudNode

    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    node = made(CloudNode, label_set="camvid11", drop_classes="[tree]")
    info = node.create_publisher(messages.LabelInfo, "/inner/label_info", LATCHED)
    node._names.update(True)
    assert node._names.awaited
    node._queue(set_of(np.zeros((HEIGHT, WIDTH), np.uint8)))
    node._make()
    assert node._ready is not None and not node._unusable
    node._names.take(told(DRIVING))
    node._make()
    assert node._ready is None and [*node._unusable] == ["other_classes"]
    # Nobody listens, and then somebody does: it is not known what runs now.
    node._names.update(False)
    assert node._names.known() == dict(enumerate(CAMVID)) and not node._names.awaited
    node.destroy_publisher(info)


def test_a_ground_node_with_another_label_set_than_its_masks_says_so(stage: Any) -> None:
    messages = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed")
    node, ns = stage.observer.node, "/ground_of_groups"
    infos = node.create_publisher(messages.LabelInfo, f"{ns}/label_info", LATCHED)
    infos.publish(
        messages.LabelInfo(
            class_map=[messages.VisionClass(class_id=i, class_name=name) for i, name in enumerate(DRIVING)]
        )
    )
    masks = node.create_publisher(Image, f"{ns}/label", RELIABLE)
    scans = stage.observer.subscribe(LaserScan, f"{ns}/ground_grid_node/scan", RELIABLE)
    process = stage.spawn(GROUND, *ros_args(ns, label_set="camvid11"))
    stage.observer.spin_until(lambda: masks.get_subscription_count() > 0)
    deadline = time.monotonic() + PATIENCE_S
    sentence = "label_set is 'camvid11', in which 0 is Sky, and in the masks it is traversable"
    while sentence not in process.output:
        assert time.monotonic() < deadline, process.output
        masks.publish(of(np.zeros((HEIGHT, WIDTH), np.uint8), "mono8"))
        stage.observer.executor.spin_once(timeout_sec=0.2)
    assert not scans
