"""The node in processes of others: any executor, several nodes, a context of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import Executor, ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from support.node_under_test import ENGINE, PATIENCE_S, RELIABLE, pixels
from support.streets import street_scene

from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmenter, SegmenterConfig
from rt_segmentation.models import ModelManifest
from rt_segmentation.ros.messages import image_message
from rt_segmentation.ros.running_model import RunningModel
from rt_segmentation.ros.segmentation_node import SegmentationNode

WIDTH, HEIGHT = 160, 120
RGB = street_scene(3, WIDTH, HEIGHT).render(0.0)[0]


def given(model: ModelManifest, **parameters: Any) -> list[Parameter[Any]]:
    every = {"model": str(model.path), **ENGINE, **parameters}
    return [Parameter(name, value=value) for name, value in every.items()]


@contextmanager
def spun(executor: Executor, *nodes: SegmentationNode) -> Iterator[None]:
    """The nodes in an executor of a thread of the test's own, and out of the middleware in the end."""

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    for node in nodes:
        executor.add_node(node)
    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
        for node in nodes:
            node.destroy_node()


class Held(SegmentationNode):
    """Can be held up in its diagnostics, as by a busy machine."""

    holds = False

    def __init__(self, **options: Any) -> None:
        self.held, self.let_go = threading.Event(), threading.Event()
        super().__init__(**options)

    def _report(self) -> None:
        if self.holds:
            self.held.set()
            assert self.let_go.wait(PATIENCE_S)
        super()._report()


class Camera:
    """Publishes an image again and again until a node has answered."""

    def __init__(self, observer: Any, namespace: str) -> None:
        self._observer = observer
        self._publisher = observer.node.create_publisher(Image, f"{namespace}/image", RELIABLE)
        self._labels = observer.subscribe(Image, f"{namespace}/segmentation_node/label", RELIABLE)

    def mask(self) -> np.ndarray:
        """What the node answers."""
        self._labels.clear()

        def answered() -> bool:
            self._publisher.publish(image_message(Header(frame_id="camera"), RGB, "rgb8"))
            return bool(self._labels)

        self._observer.spin_until(answered)
        mask: np.ndarray = pixels(self._labels[-1])
        return mask


@pytest.fixture(scope="module")
def expected(small_model: ModelManifest) -> np.ndarray:
    (result,) = Segmenter.build(small_model, **ENGINE).segment([Frame.from_rgb(RGB)])
    return result.labels


@pytest.mark.parametrize("make_executor", [SingleThreadedExecutor, MultiThreadedExecutor])
def test_two_nodes_in_an_executor_of_anybody(
    context: Context,
    observer: Any,
    small_model: ModelManifest,
    expected: np.ndarray,
    make_executor: Callable[..., Executor],
) -> None:
    namespaces = ("/front", "/rear")
    nodes = [
        Held(
            context=context,
            namespace=namespace,
            parameter_overrides=given(small_model, parallel_frames=number),
            use_global_arguments=False,
        )
        for number, namespace in enumerate(namespaces, 1)
    ]
    cameras = [Camera(observer, namespace) for namespace in namespaces]
    with spun(make_executor(context=context), *nodes):
        for camera in cameras:
            np.testing.assert_array_equal(camera.mask(), expected)
        # One that is shut down, as by a lifecycle manager, leaves the other as it is.
        shutdown = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
        assert observer.call(ChangeState, "/front/segmentation_node/change_state", shutdown).success
        assert nodes[0].finished and not nodes[1].finished
        np.testing.assert_array_equal(cameras[1].mask(), expected)
        # So does one that is destroyed while the executor is at it.
        nodes[0].holds = True
        assert nodes[0].held.wait(PATIENCE_S)
        nodes[0].destroy_node()
        nodes[0].let_go.set()
        for _ in range(2):
            request = SetBool.Request(data=True)
            assert observer.call(SetBool, "/rear/segmentation_node/enable", request).success
        np.testing.assert_array_equal(cameras[1].mask(), expected)
    for node in nodes:
        now = node.cameras[0].statistics.snapshot()
        assert now.received == now.published + sum(now.dropped.values()) > 0


def test_one_that_is_destroyed_while_it_starts_ends_without_a_word(
    context: Context, small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    began, let_go = threading.Event(), threading.Event()
    first = RunningModel.first

    def held(*arguments: Any) -> SegmenterConfig:
        began.set()
        assert let_go.wait(PATIENCE_S)
        return first(*arguments)

    monkeypatch.setattr(RunningModel, "first", held)
    node = SegmentationNode(context=context, parameter_overrides=given(small_model))
    with spun(MultiThreadedExecutor(context=context), node):
        assert began.wait(PATIENCE_S)
        node.destroy_node()
        end = time.monotonic() + PATIENCE_S
        while node._starting and time.monotonic() < end:
            time.sleep(0.01)
        assert not node._starting, "it waits for an engine that nobody needs"
        let_go.set()
    assert not node.failed and not node.finished and node._worker is None
    assert "FATAL" not in capfd.readouterr().err


def test_rclpy_spins_a_node_of_the_default_context(
    ros_environment: None, observer: Any, small_model: ModelManifest, expected: np.ndarray
) -> None:
    rclpy.init(args=[])
    try:
        node = SegmentationNode("segmentation_node", parameter_overrides=given(small_model))

        def spin() -> None:
            with suppress(ExternalShutdownException):
                rclpy.spin(node)

        thread = threading.Thread(target=spin)
        thread.start()
        np.testing.assert_array_equal(Camera(observer, "").mask(), expected)
    finally:
        rclpy.try_shutdown()
    thread.join()
    assert node.close()
    node.destroy_node()


def test_one_that_cannot_start_says_so_and_leaves_its_neighbour_alone(
    context: Context, observer: Any, small_model: ModelManifest, expected: np.ndarray, capfd: Any
) -> None:
    missing = [*given(small_model), Parameter("model", value="/no/such.yaml")]
    broken = SegmentationNode("broken", context=context, parameter_overrides=missing)
    node = SegmentationNode(context=context, namespace="/good", parameter_overrides=given(small_model))
    with spun(SingleThreadedExecutor(context=context), broken, node):
        np.testing.assert_array_equal(Camera(observer, "/good").mask(), expected)
    assert broken.failed and not node.failed
    said = capfd.readouterr().err
    assert "[FATAL]" in said and "model manifest /no/such.yaml does not exist" in said
