"""Labelled clouds of a bag: each mask with the depth image or cloud of its time, as in the cloud node."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import closing

import numpy as np

from rt_segmentation.bags.frames import IMAGE
from rt_segmentation.bags.reading import TF_MESSAGE, BagReader, Message
from rt_segmentation.bags.topics import Topic, choose_topic
from rt_segmentation.evaluation.bag.clock import stamp_of
from rt_segmentation.imaging.camera import Camera
from rt_segmentation.imaging.cloud import (
    Floats,
    Labels,
    check_registered,
    cloud_of_camera_points,
    cloud_of_depth,
    cloud_of_points,
)
from rt_segmentation.imaging.cloud_fields import view_depth, view_points
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.runtime.transforms import TransformBuffer, TransformError

POINT_CLOUD, CAMERA_INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CameraInfo"
TF_STATIC = "/tf_static"
TOLERANCE_S = 0.02
"""As the cloud node's `sync_tolerance_s`."""
KEPT_INFOS = 64
APART_NS = 500_000_000
"""So long before or after a mask's image its cloud may have been recorded [ns]."""


class BagClouds:
    """Reads a bag's depth images or clouds beside its images.

    Args:
        reader: of the bag.
        cloud_topic: of depth images or clouds.
        info_topic: of the images' calibration; None for the one beside the images, or the only one.
        image_topic: of the images.
        tolerance_s: how far stamps of an image and its cloud may be apart [s].

    Attributes:
        topic: of the clouds, as the bag has it.

    Raises:
        BagError: there is no such topic, or it is of another type.
    """

    def __init__(
        self,
        reader: BagReader,
        cloud_topic: str,
        info_topic: str | None,
        image_topic: str,
        tolerance_s: float,
    ) -> None:
        cloud = choose_cloud(reader, cloud_topic)
        self.topic = cloud.name
        if info_topic is None:
            beside = f"{image_topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
            own = [t.name for t in reader.topics if t.name.lstrip("/") == beside.lstrip("/")]
            info_topic = own[0] if own else None
        self._info_topic = choose_topic(reader.topics, info_topic, (CAMERA_INFO,), "camera-info").name
        self._tolerance_ns = round(tolerance_s * 1e9)
        # A reader of its own: what belongs to a mask may come long before the mask, or after its image.
        beside_reader = BagReader(reader.path)
        self._frames = TransformBuffer()
        # A depth image needs no frames; the oldest robots have /tf of another type.
        frames = {t.name for t in reader.topics if t.type == TF_MESSAGE and cloud.type == POINT_CLOUD}
        self._read = {self.topic, self._info_topic, *(frames - {TF_STATIC})}
        if TF_STATIC in frames:
            with closing(beside_reader.messages([TF_STATIC])) as fixed:
                for message in fixed:
                    self._take_frames(message, True)
        self._reader, self._read_ns = beside_reader, 0
        self._clouds: deque[tuple[int, Message]] = deque()
        self._infos: deque[tuple[int, Message]] = deque(maxlen=KEPT_INFOS)
        self._begin()
        self._camera: Camera | None = None
        self._count = 0
        self._without: Counter[str] = Counter()
        self._why: dict[str, str] = {}

    def close(self) -> None:
        """Stop reading."""
        self._messages.close()

    def labelled(
        self, image: Message, labels: Labels, confidence: Labels | None, rgb: Labels
    ) -> tuple[int, str, Floats] | None:
        """The labelled cloud of a mask: stamp [ns], frame_id and points, float32 (H, W, 8).

        Args:
            image: whose mask it is; they come in the order recorded, or for another model again.
            labels: uint8 (H, W)
            confidence: uint8 (H, W), or None.
            rgb: colours of the points, uint8 (H, W, 3).

        Returns:
            None where the mask has none; `problem` says why.
        """
        self._count += 1
        try:
            self._read_around(image.recorded_ns)
            message = self._nearest(stamp_of(image))
            cloud = self._cloud(message, image, labels, confidence, rgb)
        except (ImageError, TransformError) as error:
            reason = error.reason if isinstance(error, ImageError) else "no_transform"
            self._without[reason] += 1
            self._why.setdefault(reason, str(error))
            return None
        return stamp_of(message), message.content.header.frame_id, cloud

    @property
    def problem(self) -> str:
        """Sentences about the masks that have no cloud; '' where all have one."""
        return "; ".join(
            f"{count} of {self._count} masks have no labelled cloud: {self._why[reason]}"
            for reason, count in self._without.items()
        )

    def _begin(self) -> None:
        self._messages = self._reader.messages(self._read)
        self._waiting: Message | None = None
        self._clouds.clear()

    def _read_around(self, image_ns: int) -> None:
        """Have the clouds that were recorded around an image, and none of the others."""
        if image_ns < self._read_ns:
            # In real time the next model begins at the bag's beginning.
            self._messages.close()
            self._begin()
        self._read_ns = image_ns
        self._read_until(image_ns + APART_NS)
        while self._clouds and self._clouds[0][1].recorded_ns < image_ns - APART_NS:
            self._clouds.popleft()

    def _read_until(self, recorded_ns: int) -> None:
        while True:
            if self._waiting is None:
                self._waiting = next(self._messages, None)
            if self._waiting is None or self._waiting.recorded_ns > recorded_ns:
                return
            message, self._waiting = self._waiting, None
            if message.type == TF_MESSAGE:
                self._take_frames(message, False)
            elif message.topic == self.topic:
                self._clouds.append((stamp_of(message), message))
            else:
                self._infos.append((stamp_of(message), message))

    def _take_frames(self, message: Message, is_static: bool) -> None:
        for entry in message.content.transforms:
            place, turn = entry.transform.translation, entry.transform.rotation
            stamp = entry.header.stamp
            # What is no place is left out, as by the node.
            self._frames.set(
                entry.header.frame_id,
                entry.child_frame_id,
                int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec),
                (place.x, place.y, place.z),
                (turn.x, turn.y, turn.z, turn.w),
                is_static=is_static,
            )

    def _nearest(self, stamp_ns: int) -> Message:
        near = min(self._clouds, key=lambda entry: abs(entry[0] - stamp_ns), default=None)
        if near is None:
            raise ImageError("no_cloud", f"{self.topic} has no message recorded within 0.5 s of the image")
        if abs(near[0] - stamp_ns) > self._tolerance_ns:
            raise ImageError(
                "no_cloud",
                f"the nearest stamp on {self.topic} is {abs(near[0] - stamp_ns) / 1e9:.3f} s away from the "
                f"image's, and may be {self._tolerance_ns / 1e9:g} s away",
            )
        return near[1]

    def _calibration(self, stamp_ns: int) -> Camera:
        """The calibration of this stamp, else the nearest."""
        near = min(self._infos, key=lambda entry: abs(entry[0] - stamp_ns), default=None)
        if near is None:
            raise ImageError(
                "no_calibration", f"{self._info_topic} has no message until 0.5 s after the image"
            )
        camera = Camera.from_info(_Info(near[1].content), rectified=True)
        # What is computed of an equal one is kept.
        if self._camera != camera:
            self._camera = camera
        return self._camera

    def _cloud(
        self, message: Message, image: Message, labels: Labels, confidence: Labels | None, rgb: Labels
    ) -> Floats:
        content, stamp_ns = message.content, stamp_of(image)
        own, frame = content.header.frame_id, image.content.header.frame_id
        if message.type == IMAGE:
            check_registered(own, frame)
            depth = view_depth(
                content.encoding,
                content.width,
                content.height,
                content.step,
                bool(content.is_bigendian),
                content.data,
            )
            camera = self._calibration(stamp_ns)
            return cloud_of_depth(depth, labels, camera, confidence=confidence, rgb=rgb)
        points = view_points(
            content.fields,
            content.width,
            content.height,
            content.point_step,
            content.row_step,
            bool(content.is_bigendian),
            content.data,
        )
        if points.shape[:2] == labels.shape and own == frame:
            return cloud_of_camera_points(points, labels, confidence=confidence, rgb=rgb)
        camera = self._calibration(stamp_ns)
        pose = self._frames.lookup(frame, own, stamp_of(message))
        return cloud_of_points(points, labels, camera, *pose, confidence=confidence, rgb=rgb)


class _Info:
    """A bag's CameraInfo under ROS 2's names of its fields; ROS 1's are capitals."""

    def __init__(self, content: object) -> None:
        for name in ("width", "height", "distortion_model", "binning_x", "binning_y", "roi"):
            setattr(self, name, getattr(content, name))
        for name in "dkp":
            value: Sequence[float] = getattr(content, name, None)  # type: ignore[assignment]
            setattr(
                self, name, np.asarray(getattr(content, name.upper()) if value is None else value).tolist()
            )


def choose_cloud(reader: BagReader, asked: str) -> Topic:
    """The topic of depth images or clouds.

    Raises:
        BagError: there is none of that name, or it is of another type.
    """
    return choose_topic(reader.topics, asked, (IMAGE, POINT_CLOUD), "cloud")
