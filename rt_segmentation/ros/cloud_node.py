"""The mask in the world: clouds whose points have classes, from a mask with depth, a cloud or a lidar."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import (
    Floats,
    Labels,
    Selection,
    check_registered,
    cloud_of_camera_points,
    cloud_of_depth,
    cloud_of_points,
    same_size,
)
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.voxels import voxel_grid
from rt_segmentation.ros.cloud_messages import (
    Calibrations,
    ReusedCloud,
    cloud_message,
    depth_of,
    mask_of,
    points_of,
    rgb_of,
)
from rt_segmentation.ros.cloud_parameters import DEPTH, FROM_TF, PARAMETERS, class_ids
from rt_segmentation.ros.declaring import declare, refuse_unknown, values
from rt_segmentation.ros.logging_bridge import log_through
from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.ros.process import run_node
from rt_segmentation.ros.services import answer_always
from rt_segmentation.ros.tables import NAMES
from rt_segmentation.ros.topic_input import TopicInput
from rt_segmentation.ros.topics import CLOUD_POINTS, DIAGNOSTICS, publisher
from rt_segmentation.ros.transform_input import TransformInput
from rt_segmentation.ros.trouble_log import TroubleLog
from rt_segmentation.ros.usage import answered
from rt_segmentation.runtime.statistics import StreamStatistics
from rt_segmentation.runtime.synchronizer import Synchronizer
from rt_segmentation.runtime.transforms import Matrix, TransformError, rotation_matrix

NODE_NAME = "semantic_cloud_node"
ABOUT = (
    "Publishes point clouds whose points have classes: a mask with its depth image, or with a point cloud."
)
UPDATE_S = 0.2
DIAGNOSTICS_S = 1.0
LABEL, CONFIDENCE, COLOR = "label", "confidence", "color"

Messages = dict[str, Any]


class CloudNode(Node):
    """Puts masks together with depth images or clouds by their stamps, and publishes `~/points`.

    It subscribes while somebody subscribes to the result. What cannot be used is counted by its reason and
    said in one sentence, in the log and on /diagnostics, and the node goes on.

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
        self._geometry: str = settings["geometry"]
        self._selection = Selection(
            settings["min_range_m"],
            settings["max_range_m"],
            *(
                class_ids(settings[name], settings["label_set"], name)
                for name in ("keep_classes", "drop_classes")
            ),
        )
        self._calibrations = Calibrations(settings["rectified"])
        self._statistics = StreamStatistics()
        self._log = TroubleLog(self.get_logger())
        self._unusable: dict[str, str] = {}
        self._reused = ReusedCloud()
        self._ready: Messages | None = None
        self._sync: Synchronizer[Any] = Synchronizer(
            (LABEL, self._geometry), round(settings["sync_tolerance_s"] * 1e9)
        )

    @property
    def finished(self) -> bool:
        """Never by itself."""
        return False

    def start(self) -> None:
        """Make the topics."""
        self._points = publisher(self, CLOUD_POINTS)
        self._diagnostics = publisher(self, DIAGNOSTICS)
        geometry = Image if self._geometry == DEPTH else PointCloud2
        types = {LABEL: Image, self._geometry: geometry, CONFIDENCE: Image, COLOR: Image}
        self._inputs = {
            name: TopicInput(self, name, message_type, self._taker(name))
            for name, message_type in types.items()
        }
        self._info = TopicInput(self, "camera_info", CameraInfo, self._calibrations.take)
        pose = self._settings["sensor_to_camera"]
        self._pose: tuple[Matrix, Matrix] | None = None
        self._tf: TransformInput | None = None
        if pose != FROM_TF:
            self._pose = rotation_matrix(pose[3:]), np.array(pose[:3])
        elif self._geometry != DEPTH:
            self._tf = TransformInput(self, self._settings["tf_tolerance_s"], "sensor_to_camera")
        # A set that is complete waits until the messages that are here are taken: the newest one wins.
        self._make_soon = self.create_guard_condition(self._make)
        self.create_timer(UPDATE_S, self._update)
        self.create_timer(DIAGNOSTICS_S, self._diagnose)
        self._update()
        self.get_logger().info(
            f"publishing {self._points.topic_name} from {self._inputs[LABEL].topic} and "
            f"{self._inputs[self._geometry].topic} while somebody subscribes"
        )

    def close(self) -> bool:
        """Nothing is left running."""
        return True

    @property
    def _listened(self) -> bool:
        return self._points.get_subscription_count() > 0

    def _taker(self, name: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            found = self._sync.add(name, stamp_ns(message.header), message)
            if found is None:
                return
            self._statistics.frame_received()
            if self._ready is not None:
                self._statistics.frame_dropped("replaced")
            self._ready = found
            self._make_soon.trigger()

        return take

    def _update(self) -> None:
        listened = self._listened
        asked = {CONFIDENCE: self._settings["use_confidence"], COLOR: self._settings["use_color"]}
        # What nobody publishes would keep every set waiting.
        extra = [name for name, wanted in asked.items() if wanted and self._inputs[name].has_publisher]
        names = (LABEL, self._geometry, *extra)
        for name, source in self._inputs.items():
            source.update(listened and name in names)
        self._info.update(listened)
        if not listened:
            self._sync.clear()
        elif names != self._sync.topics:
            self._sync.expect(names)

    def _make(self) -> None:
        messages, self._ready = self._ready, None
        if messages is None:
            return
        began = time.perf_counter()
        try:
            cloud = self._cloud(messages)
            made = time.perf_counter()
        except (ImageError, TransformError) as error:
            reason = error.reason if isinstance(error, ImageError) else "no_transform"
            self._statistics.frame_dropped(reason)
            self._unusable[reason] = str(error)
            return
        cloud.header = messages[self._geometry].header
        self._points.publish(cloud)
        sent = time.perf_counter()
        self._statistics.frame_published({"cloud": (made - began) * 1e3, "publish": (sent - made) * 1e3})

    def _cloud(self, messages: Messages) -> PointCloud2:
        labels = mask_of(messages[LABEL], "mask")
        paint: dict[str, Any] = {"confidence": None, "rgb": None}
        if CONFIDENCE in messages:
            paint["confidence"] = mask_of(messages[CONFIDENCE], "confidence image")
            same_size("confidence image", paint["confidence"], labels)
        if COLOR in messages:
            paint["rgb"] = rgb_of(messages[COLOR])
            same_size("colour image", paint["rgb"], labels)
        header = messages[self._geometry].header
        if self._geometry == DEPTH:
            cloud = self._of_depth(messages, labels, paint)
        else:
            points = points_of(messages[self._geometry])
            if points.shape[:2] == labels.shape and header.frame_id == messages[LABEL].header.frame_id:
                out = self._reused.points(*labels.shape)
                cloud = cloud_of_camera_points(points, labels, selection=self._selection, out=out, **paint)
            else:
                cloud = self._of_points(points, messages, labels, paint)
        if self._settings["voxel_size_m"] > 0:
            return cloud_message(voxel_grid(cloud, self._settings["voxel_size_m"]), is_dense=True)
        return self._reused.message(cloud) or cloud_message(cloud, is_dense=False)

    def _of_depth(self, messages: Messages, labels: Labels, paint: dict[str, Any]) -> Floats:
        check_registered(messages[DEPTH].header.frame_id, messages[LABEL].header.frame_id)
        depth = depth_of(messages[DEPTH])
        # Their sizes are compared first: a depth image of another size is likelier than another camera_info.
        same_size("depth image", depth, labels)
        camera, out = self._camera(messages), self._reused.points(*labels.shape)
        return cloud_of_depth(depth, labels, camera, selection=self._selection, out=out, **paint)

    def _of_points(self, points: Floats, messages: Messages, labels: Labels, paint: dict[str, Any]) -> Floats:
        camera, header = self._camera(messages), messages[self._geometry].header
        if self._pose is not None:
            rotation, translation = self._pose
        else:
            assert self._tf is not None
            rotation, translation = self._tf.lookup(
                messages[LABEL].header.frame_id, header.frame_id, stamp_ns(header)
            )
        return cloud_of_points(
            points,
            labels,
            camera,
            rotation,
            translation,
            selection=self._selection,
            nearest_wins=self._settings["nearest_wins"],
            **paint,
        )

    def _camera(self, messages: Messages) -> Camera:
        camera = self._calibrations.camera(stamp_ns(messages[LABEL].header))
        if camera is None:
            raise ImageError(
                "no_calibration",
                f"No camera_info has come on {self._info.topic}; a cloud needs the mask's own.",
            )
        return camera

    def _troubles(self) -> list[str]:
        """What is wrong now, a sentence each."""
        stale_after_s = self._settings["diagnostics.stale_after_s"]
        sources = [self._inputs[name] for name in self._sync.topics]
        found = [source.trouble(stale_after_s) for source in sources]
        if not self._statistics.snapshot().output_hz and not any(found):
            found += [self._apart(source) for source in sources[1:]]
        found += self._unusable.values()
        if "no_calibration" in self._unusable:
            found.append(self._info.trouble(stale_after_s))
        return [sentence for sentence in found if sentence]

    def _apart(self, source: TopicInput) -> str:
        gap_ns = self._sync.gap_ns(source.name)
        tolerance_s = self._settings["sync_tolerance_s"]
        if gap_ns is None or abs(gap_ns) <= tolerance_s * 1e9:
            return ""
        way = "ahead of" if gap_ns > 0 else "behind"
        return (
            f"the stamps on {source.topic} are {abs(gap_ns) / 1e9:.3f} s {way} those on "
            f"{self._inputs[LABEL].topic}, more than sync_tolerance_s {tolerance_s:g}"
        )

    def _diagnose(self) -> None:
        listened = self._listened
        troubles = self._troubles() if listened else []
        self._unusable.clear()
        self._log.update(troubles, listened)
        now = self._statistics.snapshot()
        facts = {
            "geometry": self._geometry,
            "clouds published": str(now.published),
            **now.facts("sets"),
        }
        for topic in self._sync.topics:
            facts[f"messages without a match: {topic}"] = str(self._sync.unmatched[topic])
        doing = f"clouds at {now.output_hz:.1f} Hz" if listened else "nobody listens"
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if troubles else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: cloud",
            message="; ".join(troubles) or doing,
            values=[KeyValue(key=key, value=value) for key, value in facts.items()],
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; see `run_node` for the exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = answered(NODE_NAME, ABOUT, PARAMETERS, arguments)
    return run_node(NODE_NAME, lambda _: CloudNode(), arguments) if status is None else status


if __name__ == "__main__":
    sys.exit(main())
