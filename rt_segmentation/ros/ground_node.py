"""Where a robot can drive, of masks: the ground classes on the plane under the camera."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import importlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from rt_segmentation.groups import GroupsError, ids_of
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.ground import GroundProjection, GroundView, Labels, kinds
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.ros.cloud_messages import Calibrations, mask_of
from rt_segmentation.ros.cloud_parameters import FROM_TF
from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.ground_messages import (
    foot_transform,
    grid_message,
    package_missing,
    scan_message,
    values_of,
)
from rt_segmentation.ros.ground_parameters import PARAMETERS, grid_of, groups_of, named_classes
from rt_segmentation.ros.logging_bridge import log_through
from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.ros.parameters import ParameterError
from rt_segmentation.ros.process import run_node
from rt_segmentation.ros.services import answer_always
from rt_segmentation.ros.tables import NAMES
from rt_segmentation.ros.topic_input import TopicInput
from rt_segmentation.ros.topics import DIAGNOSTICS, GROUND_GRID, GROUND_SCAN, SCAN_FRAME, publisher
from rt_segmentation.ros.transform_input import TransformInput
from rt_segmentation.ros.trouble_log import TroubleLog
from rt_segmentation.ros.usage import answered
from rt_segmentation.runtime.statistics import StreamStatistics
from rt_segmentation.runtime.transforms import Matrix, TransformError, rotation_matrix

NODE_NAME = "ground_grid_node"
ABOUT = "Publishes where masks show ground: a grid of free and occupied cells, and free ranges as a scan."
UPDATE_S = 0.2
DIAGNOSTICS_S = 1.0


class GroundNode(Node):
    """Projects each mask's ground onto the plane under the camera, and publishes `~/grid` and `~/scan`.

    It subscribes while somebody subscribes to a result. What cannot be used is counted by its reason and said
    in one sentence, in the log and on /diagnostics, and the node goes on.

    Attributes:
        failed: Never: what keeps it from its start is raised by `start`.

    Raises:
        ParameterError: a parameter is unknown or has a bad value.
    """

    failed = False

    def __init__(self) -> None:
        super().__init__(NODE_NAME)
        answer_always(self)
        log_through(self.get_logger())
        refuse_unknown(self, PARAMETERS, NODE_NAME, NAMES)
        declare(self, PARAMETERS)
        settings = self._settings = values(self, PARAMETERS)
        self._grid, self._groups = grid_of(settings), groups_of(settings)
        self._table: Labels | None = None
        self._classes: dict[str, int] | None = None
        labels = named_classes(settings)
        if labels is not None:
            try:
                self._take_classes({entry.name: entry.id for entry in labels.classes})
                self._ground_table()
            except ImageError as error:
                raise ParameterError(str(error)) from error
        self._values = values_of(
            settings["free_value"], settings["occupied_value"], settings["unknown_value"]
        )
        self._calibrations = Calibrations(settings["rectified"])
        self._statistics = StreamStatistics()
        self._log = TroubleLog(self.get_logger())
        self._unusable: dict[str, str] = {}
        self._ready: Image | None = None
        self._projection: GroundProjection | None = None
        self._projected: tuple[Camera, bytes] | None = None

    @property
    def finished(self) -> bool:
        """Never by itself."""
        return False

    def start(self) -> None:
        """Make the topics."""
        self._lacking = [
            sentence
            for package, what in (
                ("nav_msgs", "~/grid cannot be published"),
                ("tf2_msgs", "the frame of ~/scan cannot be published on /tf"),
            )
            if (sentence := package_missing(package, what))
        ]
        for sentence in self._lacking:
            self.get_logger().warning(sentence)
        self._scan = publisher(self, GROUND_SCAN)
        self._grids: Publisher[Any] | None = None
        if not package_missing("nav_msgs", ""):
            self._grids = publisher(self, GROUND_GRID)
        self._frames: Publisher[Any] | None = None
        if not package_missing("tf2_msgs", ""):
            self._frames = publisher(self, SCAN_FRAME)
        self._diagnostics = publisher(self, DIAGNOSTICS)
        self._label = TopicInput(self, "label", Image, self._take)
        self._info = TopicInput(self, "camera_info", CameraInfo, self._calibrations.take)
        self._names: TopicInput | None = None
        self._no_names = ""
        if self._classes is None:
            self._no_names = package_missing("vision_msgs", "label_info cannot be read")
            if self._no_names:
                self._no_names += ", or set label_set"
            else:
                message_type = importlib.import_module("vision_msgs.msg").LabelInfo
                self._names = TopicInput(self, "label_info", message_type, self._take_names)
        pose = self._settings["camera_in_ground"]
        self._pose: tuple[Matrix, Matrix] | None = None
        self._tf: TransformInput | None = None
        if pose != FROM_TF:
            self._pose = rotation_matrix(pose[3:]), np.array(pose[:3])
        else:
            self._tf = TransformInput(self, self._settings["tf_tolerance_s"], "camera_in_ground")
        # A mask waits until the messages that are here are taken: the newest one wins.
        self._make_soon = self.create_guard_condition(self._make)
        self.create_timer(UPDATE_S, self._update)
        self.create_timer(DIAGNOSTICS_S, self._diagnose)
        self._update()
        topics = " and ".join(p.topic_name for p in (self._grids, self._scan) if p is not None)
        self.get_logger().info(f"publishing {topics} from {self._label.topic} while somebody subscribes")

    def close(self) -> bool:
        """Nothing is left running."""
        return True

    @property
    def _listened(self) -> bool:
        return any(p is not None and p.get_subscription_count() > 0 for p in (self._grids, self._scan))

    def _take(self, message: Image) -> None:
        self._statistics.frame_received()
        if self._ready is not None:
            self._statistics.frame_dropped("replaced")
        self._ready = message
        self._make_soon.trigger()

    def _take_names(self, message: Any) -> None:
        """Take a LabelInfo; a mask's pixel can have no id above 254."""
        self._take_classes(
            {
                entry.class_name: int(entry.class_id)
                for entry in message.class_map
                if entry.class_id < IGNORE_ID
            }
        )

    def _take_classes(self, classes: dict[str, int]) -> None:
        if classes != self._classes:
            self._classes, self._table = classes, None

    def _update(self) -> None:
        listened = self._listened
        for source in (self._label, self._info, self._names):
            if source is not None:
                source.update(listened)

    def _make(self) -> None:
        message, self._ready = self._ready, None
        if message is None:
            return
        began = time.perf_counter()
        try:
            view = self._view(message)
            made = time.perf_counter()
        except (ImageError, TransformError) as error:
            reason = error.reason if isinstance(error, ImageError) else "no_transform"
            self._statistics.frame_dropped(reason)
            self._unusable[reason] = str(error)
            return
        self._publish(view, message.header)
        sent = time.perf_counter()
        self._statistics.frame_published({"ground": (made - began) * 1e3, "publish": (sent - made) * 1e3})

    def _view(self, message: Image) -> GroundView:
        labels = mask_of(message, "mask")
        table = self._ground_table()
        camera = self._calibrations.camera(stamp_ns(message.header))
        if camera is None:
            raise ImageError(
                "no_calibration",
                f"No camera_info has come on {self._info.topic}; the ground needs the mask's own.",
            )
        rotation, translation = self._camera_pose(message.header)
        # A mask that does not fit its calibration is refused before anything is computed of it.
        where = rotation.tobytes() + translation.tobytes()
        known = self._projected
        if self._projection is None or known is None or known[0] is not camera or known[1] != where:
            self._projection = None
            self._projection = GroundProjection(
                camera, rotation, translation, self._grid, self._settings["beams"]
            )
            self._projected = camera, where
        return self._projection.view(labels, table)

    def _camera_pose(self, header: Header) -> tuple[Matrix, Matrix]:
        """Rotation and translation from the camera's frame to the ground frame, with the ground at z = 0."""
        if self._pose is not None:
            rotation, translation = self._pose
        else:
            assert self._tf is not None
            rotation, translation = self._tf.lookup(
                self._settings["ground_frame"], header.frame_id, stamp_ns(header)
            )
        return rotation, translation - np.array([0.0, 0.0, self._settings["ground_height_m"]])

    def _ground_table(self) -> Labels:
        if self._classes is None:
            why = self._no_names or (self._names.why_silent() if self._names is not None else "")
            topic = self._names.topic if self._names is not None else "label_info"
            raise ImageError(
                "no_label_info",
                f"Which classes are ground is not known, as no LabelInfo has come on {topic}: {why}"
                + ("" if self._no_names else ", or set label_set"),
            )
        if self._table is None:
            try:
                ground = ids_of(self._settings["ground_classes"], self._classes, self._groups)
            except GroupsError as error:
                raise ImageError("no_ground_class", f"parameter 'ground_classes': {error}") from error
            self._table = kinds(ground)
        return self._table

    def _publish(self, view: GroundView, mask: Header) -> None:
        settings = self._settings
        ground = Header(stamp=mask.stamp, frame_id=settings["ground_frame"])
        height_m = settings["ground_height_m"]
        if self._grids is not None and self._grids.get_subscription_count():
            self._grids.publish(grid_message(view, self._grid, height_m, self._values, ground))
        if self._scan.get_subscription_count():
            frame = settings["scan_frame"] or f"{mask.frame_id or 'camera'}_ground"
            # Who has the scan can ask for its frame.
            if self._frames is not None:
                self._frames.publish(foot_transform(view, height_m, ground, frame))
            self._scan.publish(scan_message(view, self._grid, Header(stamp=mask.stamp, frame_id=frame)))

    def _troubles(self) -> list[str]:
        """What is wrong now, a sentence each."""
        stale_after_s = self._settings["diagnostics.stale_after_s"]
        found = [self._label.trouble(stale_after_s), *self._unusable.values()]
        if "no_calibration" in self._unusable:
            found.append(self._info.trouble(stale_after_s))
        return [sentence for sentence in found if sentence]

    def _diagnose(self) -> None:
        listened = self._listened
        troubles = self._troubles() if listened else []
        self._unusable.clear()
        self._log.update(troubles, listened)
        now = self._statistics.snapshot()
        facts = {
            "ground classes": ", ".join(self._settings["ground_classes"]),
            "masks published": str(now.published),
            **now.facts("masks"),
        }
        doing = f"ground at {now.output_hz:.1f} Hz" if listened else "nobody listens"
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if troubles else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: ground",
            message="; ".join([*troubles, *(self._lacking if listened else [])]) or doing,
            values=[KeyValue(key=key, value=value) for key, value in facts.items()],
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; see `run_node` for the exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = answered(NODE_NAME, ABOUT, PARAMETERS, arguments)
    return run_node(NODE_NAME, lambda _: GroundNode(), arguments) if status is None else status


if __name__ == "__main__":
    sys.exit(main())
