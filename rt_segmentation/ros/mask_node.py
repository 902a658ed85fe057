"""What the nodes that make something of masks have in common."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.ros.class_names import ClassNames
from rt_segmentation.ros.cloud_messages import Calibrations
from rt_segmentation.ros.cloud_parameters import FROM_TF
from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.guarded import GuardedNode
from rt_segmentation.ros.logging_bridge import log_through
from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.ros.parameters import Parameter
from rt_segmentation.ros.process import run_node
from rt_segmentation.ros.services import answer_always
from rt_segmentation.ros.tables import NAMES
from rt_segmentation.ros.topic_input import TopicInput
from rt_segmentation.ros.topics import DIAGNOSTICS, publisher
from rt_segmentation.ros.transform_input import TransformInput
from rt_segmentation.ros.trouble_log import TroubleLog
from rt_segmentation.ros.usage import answered
from rt_segmentation.runtime.statistics import Snapshot, StreamStatistics
from rt_segmentation.runtime.transforms import Matrix, TransformError, rotation_matrix

UPDATE_S = 0.2
DIAGNOSTICS_S = 1.0

Input = TypeVar("Input")
Result = TypeVar("Result")


class MaskNode(GuardedNode, ABC, Generic[Input, Result]):
    """Makes something of the newest mask while somebody subscribes to it.

    What cannot be used is counted by its reason and said in one sentence, in the log and on /diagnostics, and
    the node goes on.

    Args:
        name: the node's.
        table: its parameters.

    Attributes:
        failed: Never: what keeps it from its start is raised by `start`.
        result: what it makes, in a word: a stage of its work, and the name of its diagnostics.
        results: what it publishes, in a word.

    Raises:
        ParameterError: a parameter is unknown or has a bad value.
    """

    failed = False
    result: str
    results: str
    _names: ClassNames

    def __init__(self, name: str, table: Sequence[Parameter]) -> None:
        super().__init__(name)
        answer_always(self)
        log_through(self.get_logger())
        refuse_unknown(self, table, name, NAMES)
        declare(self, table)
        self._settings = values(self, table)
        self._calibrations = Calibrations(self._settings["rectified"])
        self._statistics = StreamStatistics()
        self._log = TroubleLog(self.get_logger())
        self._unusable: dict[str, str] = {}
        self._lacking: list[str] = []
        self._ready: Input | None = None
        self._pose: tuple[Matrix, Matrix] | None = None
        self._tf: TransformInput | None = None

    @property
    def finished(self) -> bool:
        """Never by itself."""
        return False

    @abstractmethod
    def start(self) -> None:
        """Make the topics."""

    def close(self) -> bool:
        """Nothing is left running."""
        return True

    @property
    @abstractmethod
    def _listened(self) -> bool:
        """Whether somebody subscribes to a result."""

    @abstractmethod
    def _update(self) -> None:
        """Subscribe to what is wanted now."""

    @abstractmethod
    def _made(self, messages: Input) -> Result:
        """What messages make.

        Raises:
            ImageError: they cannot be used.
            TransformError: nobody knows where the sensor is.
        """

    @abstractmethod
    def _send(self, result: Result, messages: Input) -> None:
        """Publish what messages made."""

    @abstractmethod
    def _troubles(self) -> list[str]:
        """What is wrong now, a sentence each; empty ones count for nothing."""

    @abstractmethod
    def _facts(self, now: Snapshot) -> dict[str, str]:
        """The values on /diagnostics."""

    def _run(self) -> None:
        """Begin, once the publishers and inputs are there."""
        self._diagnostics = publisher(self, DIAGNOSTICS)
        self._info = TopicInput(self, "camera_info", CameraInfo, self._calibrations.take)
        # What is complete waits until the messages that are here are taken: the newest one wins.
        self._make_soon = self.create_guard_condition(self._make)
        # Not the node's clock: that of a simulation may stand still, or not be there yet.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(UPDATE_S, self._tick, clock=steady)
        self.create_timer(DIAGNOSTICS_S, self._diagnose, clock=steady)
        self._tick()

    def _name_classes(self, entries: Iterable[str], what: str) -> ClassNames:
        """What the ids of masks mean, where one of the entries is a name; see `ClassNames`."""
        self._names = ClassNames(self, self._settings["label_set"], entries, what)
        return self._names

    def _tick(self) -> None:
        self._update()
        listened = self._listened
        self._statistics.follow(listened)
        self._names.update(listened)
        if self._ready is not None:
            self._make_soon.trigger()

    def _find_pose(self, parameter: str) -> None:
        """Take a pose of seven numbers from a parameter, or listen to /tf for it."""
        pose = self._settings[parameter]
        if pose != FROM_TF:
            self._pose = rotation_matrix(pose[3:]), np.array(pose[:3])
        else:
            self._tf = TransformInput(self, self._settings["tf_tolerance_s"], parameter)

    def _pose_of(self, source: Header, target: str) -> tuple[Matrix, Matrix]:
        """Rotation and translation from a message's frame to another, given or from tf."""
        if self._pose is not None:
            return self._pose
        assert self._tf is not None
        return self._tf.lookup(target, source.frame_id, stamp_ns(source))

    def _camera(self, mask: Header, what: str) -> Camera:
        """The calibration of a mask, which `what` needs."""
        camera = self._calibrations.camera(stamp_ns(mask))
        if camera is None:
            raise ImageError(
                "no_calibration",
                f"No camera_info has come on {self._info.topic}; {what} needs the mask's own.",
            )
        return camera

    def _queue(self, messages: Input) -> None:
        self._statistics.frame_received()
        if self._ready is not None:
            self._statistics.frame_dropped("replaced")
        self._ready = messages
        self._make_soon.trigger()

    def _make(self) -> None:
        if self._ready is None or self._names.awaited:
            return
        messages, self._ready = self._ready, None
        began = time.perf_counter()
        try:
            result = self._made(messages)
            made = time.perf_counter()
        except (ImageError, TransformError) as error:
            reason = error.reason if isinstance(error, ImageError) else "no_transform"
            self._statistics.frame_dropped(reason)
            self._unusable[reason] = str(error)
            return
        # Messages come from anybody, and the next ones may be fine: the robot needs the node.
        except Exception as error:
            self._statistics.frame_dropped("failed")
            self._unusable["failed"] = f"The {self.result} could not be made: {type(error).__name__}: {error}"
            return
        self._send(result, messages)
        sent = time.perf_counter()
        self._statistics.frame_published({self.result: (made - began) * 1e3, "publish": (sent - made) * 1e3})

    def _diagnose(self) -> None:
        listened, troubles = self._listened, []
        if listened:
            # It holds between masks, too, and is said once.
            troubles = [*self._troubles(), self._names.contradiction, *self._unusable.values()]
            if "no_calibration" in self._unusable:
                troubles.append(self._info.trouble(self._settings["diagnostics.stale_after_s"]))
            troubles = [*dict.fromkeys(filter(None, troubles))]
        self._unusable.clear()
        self._log.update(troubles, listened)
        now = self._statistics.snapshot()
        doing = f"{self.results} at {now.output_hz:.1f} Hz" if listened else "nobody listens"
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if troubles else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: {self.result}",
            message="; ".join([*troubles, *(self._lacking if listened else [])]) or doing,
            values=[KeyValue(key=key, value=value) for key, value in self._facts(now).items()],
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))


def run_mask_node(
    name: str,
    about: str,
    table: Sequence[Parameter],
    make: Callable[[], MaskNode[Any, Any]],
    argv: Sequence[str] | None,
) -> int:
    """Run a node until it is interrupted; see `run_node` for the exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = answered(name, about, table, arguments)
    return run_node(name, lambda _: make(), arguments) if status is None else status
