"""Where a robot can drive, of masks: the ground classes on the plane under the camera."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from rt_segmentation.groups import GroupsError, ids_of
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.ground import GroundProjection, GroundView, Labels, kinds
from rt_segmentation.ros.cloud_messages import mask_of
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
        names = self._name_classes(settings["ground_classes"], "Which classes are ground")
        self._table: Labels | None = None
        self._table_of: Mapping[int, str] | None = None
        if names.given is not None or not names.wanted:
            try:
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
        self._find_pose("camera_in_ground")
        self._run()
        topics = " and ".join(p.topic_name for p in (self._grids, self._scan) if p is not None)
        self.get_logger().info(f"publishing {topics} from {self._label.topic} while somebody subscribes")

    @property
    def _listened(self) -> bool:
        return any(p is not None and p.get_subscription_count() > 0 for p in (self._grids, self._scan))

    def _update(self) -> None:
        listened = self._listened
        for source in (self._label, self._info):
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
        classes = self._names.known()
        if self._table is None or classes is not self._table_of:
            try:
                ground = ids_of(self._settings["ground_classes"], classes, self._groups)
            except GroupsError as error:
                raise ImageError("no_ground_class", f"parameter 'ground_classes': {error}") from error
            self._table, self._table_of = kinds(ground), classes
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
