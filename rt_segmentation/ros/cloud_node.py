"""The mask in the world: clouds whose points have classes, from a mask with depth, a cloud or a lidar."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sensor_msgs.msg import Image, PointCloud2

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
    ReusedCloud,
    cloud_message,
    depth_of,
    mask_of,
    points_of,
    rgb_of,
)
from rt_segmentation.ros.cloud_parameters import DEPTH, PARAMETERS, class_ids, range_limits
from rt_segmentation.ros.mask_node import MaskNode, run_mask_node
from rt_segmentation.ros.messages import stamp_ns
from rt_segmentation.ros.pairing import no_room, why_apart
from rt_segmentation.ros.parameters import ParameterError
from rt_segmentation.ros.topic_input import TopicInput
from rt_segmentation.ros.topics import CLOUD_POINTS, publisher
from rt_segmentation.runtime.statistics import Snapshot
from rt_segmentation.runtime.synchronizer import Synchronizer

NODE_NAME = "semantic_cloud_node"
ABOUT = (
    "Publishes point clouds whose points have classes: a mask with its depth image, or with a point cloud."
)
LABEL, CONFIDENCE, COLOR = "label", "confidence", "color"

Messages = dict[str, Any]


class CloudNode(MaskNode[Messages, PointCloud2]):
    """Puts masks together with depth images or clouds by their stamps, and publishes `~/points`."""

    result, results = "cloud", "clouds"

    def __init__(self) -> None:
        super().__init__(NODE_NAME, PARAMETERS)
        settings = self._settings
        self._geometry: str = settings["geometry"]
        entries = [*settings["keep_classes"], *settings["drop_classes"]]
        names = self._name_classes(entries, "Which classes stay")
        self._selected_by: Mapping[int, str] | None = names.given
        self._selection = self._selected(names.at_start)
        self._reused = ReusedCloud()
        self._sync: Synchronizer[Any] = Synchronizer(
            (LABEL, self._geometry), round(settings["sync_tolerance_s"] * 1e9)
        )
        self._told_crowded = False

    def start(self) -> None:
        """Make the topics."""
        self._points = publisher(self, CLOUD_POINTS)
        geometry = Image if self._geometry == DEPTH else PointCloud2
        types = {LABEL: Image, self._geometry: geometry, CONFIDENCE: Image, COLOR: Image}
        self._inputs = {
            name: TopicInput(self, name, message_type, self._taker(name))
            for name, message_type in types.items()
        }
        if self._geometry != DEPTH:
            self._find_pose("sensor_to_camera")
        self._run()
        self.get_logger().info(
            f"publishing {self._points.topic_name} from {self._inputs[LABEL].topic} and "
            f"{self._inputs[self._geometry].topic} while somebody subscribes"
        )

    @property
    def _listened(self) -> bool:
        return self._points.get_subscription_count() > 0

    def _taker(self, name: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            found = self._sync.add(name, stamp_ns(message.header), message, len(message.data))
            if found is not None:
                self._queue(found)
            if self._sync.crowded and not self._told_crowded:
                self._told_crowded = True
                self.get_logger().warning(no_room(self._sync, self._inputs[next(iter(self._sync.crowded))]))

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

    def _made(self, messages: Messages) -> PointCloud2:
        labels = mask_of(messages[LABEL], "mask")
        self._follow_names()
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

    def _send(self, result: PointCloud2, messages: Messages) -> None:
        result.header = messages[self._geometry].header
        self._points.publish(result)

    def _selected(self, classes: Mapping[int, str] | None) -> Selection:
        """What stays, by the names of classes; None where those are not known yet."""
        settings, has = self._settings, self._names.has
        keep, drop = (class_ids(settings[n], classes, has, n) for n in ("keep_classes", "drop_classes"))
        return Selection(*range_limits(settings), keep, drop)

    def _follow_names(self) -> None:
        classes = self._names.known()
        if classes is self._selected_by:
            return
        try:
            self._selection, self._selected_by = self._selected(classes), classes
        except ParameterError as error:
            raise ImageError("unknown_class", str(error)) from error

    def _of_depth(self, messages: Messages, labels: Labels, paint: dict[str, Any]) -> Floats:
        check_registered(messages[DEPTH].header.frame_id, messages[LABEL].header.frame_id)
        depth = depth_of(messages[DEPTH])
        # Their sizes are compared first: a depth image of another size is likelier than another camera_info.
        same_size("depth image", depth, labels)
        camera, out = self._mask_camera(messages), self._reused.points(*labels.shape)
        return cloud_of_depth(depth, labels, camera, selection=self._selection, out=out, **paint)

    def _of_points(self, points: Floats, messages: Messages, labels: Labels, paint: dict[str, Any]) -> Floats:
        camera, mask = self._mask_camera(messages), messages[LABEL].header
        rotation, translation = self._pose_of(messages[self._geometry].header, mask.frame_id)
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

    def _mask_camera(self, messages: Messages) -> Camera:
        return self._camera(messages[LABEL].header, "a cloud")

    def _troubles(self) -> list[str]:
        stale_after_s = self._settings["diagnostics.stale_after_s"]
        sources = [self._inputs[name] for name in self._sync.topics]
        found = [source.trouble(stale_after_s) for source in sources]
        if not any(found[:2]):
            # There would be clouds without these.
            found = [
                f"{trouble}; clouds wait for it, unless use_{source.name} is false" if trouble else ""
                for source, trouble in zip(sources, found)
            ]
        if not self._statistics.snapshot().output_hz and not any(found):
            found += [
                why_apart(self._sync, sources[0], source, self._settings["sync_tolerance_s"])
                for source in sources[1:]
            ]
        return found

    def _facts(self, now: Snapshot) -> dict[str, str]:
        facts = {
            "geometry": self._geometry,
            "clouds published": str(now.published),
            **now.facts("sets"),
        }
        for topic in self._sync.topics:
            facts[f"messages without a match: {topic}"] = str(self._sync.unmatched[topic])
        return facts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is interrupted; see `run_node` for the exit status."""
    return run_mask_node(NODE_NAME, ABOUT, PARAMETERS, CloudNode, argv)


if __name__ == "__main__":
    sys.exit(main())
