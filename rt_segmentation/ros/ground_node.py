"""Where a robot can drive, of masks: the ground classes on the plane under the camera."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.groups import GroupsError, ids_of
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.ground import GroundProjection, GroundView, Labels, kinds
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.ros.cloud_messages import mask_of
from rt_segmentation.ros.cloud_parameters import named_classes
from rt_segmentation.ros.ground_messages import (
    foot_transform,
    grid_message,
    package_missing,
    scan_message,
    values_of,
)
from rt_segmentation.ros.ground_parameters import PARAMETERS, grid_of, groups_of
from rt_segmentation.ros.mask_node import MaskNode, run_mask_node
from rt_segmentation.ros.parameters import ParameterError
from rt_segmentation.ros.topic_input import TopicInput
from rt_segmentation.ros.topics import GROUND_GRID, GROUND_SCAN, SCAN_FRAME, publisher
from rt_segmentation.runtime.statistics import Snapshot
from rt_segmentation.runtime.transforms import Matrix

NODE_NAME = "ground_grid_node"
ABOUT = "Publishes where masks show ground: a grid of free and occupied cells, and free ranges as a scan."


class GroundNode(MaskNode[Image, GroundView]):
    """Projects each mask's ground onto the plane under the camera, and publishes `~/grid` and `~/scan`."""

    result, results = "ground", "ground"

    def __init__(self) -> None:
        super().__init__(NODE_NAME, PARAMETERS)
        settings = self._settings
        self._grid, self._groups = grid_of(settings), groups_of(settings)
        self._table: Labels | None = None
        self._classes: dict[str, int] | None = None
        labels = named_classes(settings["label_set"])
        if labels is not None:
            try:
                self._take_classes({entry.name: entry.id for entry in labels.classes})
                self._ground_table()
            except ImageError as error:
                raise ParameterError(str(error)) from error
        self._values = values_of(
            settings["free_value"], settings["occupied_value"], settings["unknown_value"]
        )
        self._projection: GroundProjection | None = None
        self._projected: tuple[Camera, bytes] | None = None

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
        self._label = TopicInput(self, "label", Image, self._queue)
        self._names: TopicInput | None = None
        self._no_names = ""
        if self._classes is None:
            self._no_names = package_missing("vision_msgs", "label_info cannot be read")
            if self._no_names:
                self._no_names += ", or set label_set"
            else:
                message_type = importlib.import_module("vision_msgs.msg").LabelInfo
                self._names = TopicInput(self, "label_info", message_type, self._take_names)
        self._find_pose("camera_in_ground")
        self._run()
        topics = " and ".join(p.topic_name for p in (self._grids, self._scan) if p is not None)
        self.get_logger().info(f"publishing {topics} from {self._label.topic} while somebody subscribes")

    @property
    def _listened(self) -> bool:
        return any(p is not None and p.get_subscription_count() > 0 for p in (self._grids, self._scan))

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

    def _made(self, messages: Image) -> GroundView:
        labels = mask_of(messages, "mask")
        table = self._ground_table()
        camera = self._camera(messages.header, "the ground")
        # Before anything is computed of a size that is not the mask's.
        camera.check_mask(labels)
        rotation, translation = self._camera_pose(messages.header)
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
        rotation, translation = self._pose_of(header, self._settings["ground_frame"])
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

    def _send(self, result: GroundView, messages: Image) -> None:
        mask, settings = messages.header, self._settings
        ground = Header(stamp=mask.stamp, frame_id=settings["ground_frame"])
        height_m = settings["ground_height_m"]
        if self._grids is not None and self._grids.get_subscription_count():
            self._grids.publish(grid_message(result, self._grid, height_m, self._values, ground))
        if self._scan.get_subscription_count():
            frame = settings["scan_frame"] or f"{mask.frame_id or 'camera'}_ground"
            # Who has the scan can ask for its frame.
            if self._frames is not None:
                self._frames.publish(foot_transform(result, height_m, ground, frame))
            self._scan.publish(scan_message(result, self._grid, Header(stamp=mask.stamp, frame_id=frame)))

    def _troubles(self) -> list[str]:
        return [self._label.trouble(self._settings["diagnostics.stale_after_s"])]

    def _facts(self, now: Snapshot) -> dict[str, str]:
        return {
            "ground classes": ", ".join(self._settings["ground_classes"]),
            "masks published": str(now.published),
            **now.facts("masks"),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; see `run_node` for the exit status."""
    return run_mask_node(NODE_NAME, ABOUT, PARAMETERS, GroundNode, argv)


if __name__ == "__main__":
    sys.exit(main())
