"""Coordinate frames over time, as /tf and /tf_static tell of them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rt_segmentation.errors import RtSegmentationError

Matrix = npt.NDArray[np.float64]

_MAX_DEPTH = 1000
# Messages of one publisher come in order. A stamp that goes back further means that its clock was set back.
_REORDERED_NS = 200_000_000
# So far no clock is corrected on a robot that drives: a simulator has begun anew, or a bag. One frame alone
# may have two publishers that differ.
_ANEW_NS = 2_000_000_000
_ANEW_FRAMES = 2


class TransformError(RtSegmentationError, LookupError):
    """There is no transform between two frames at a time; the message is one sentence."""


class _Pose(NamedTuple):
    stamp_ns: int
    translation: Matrix
    quaternion: Matrix


class _Link:
    """How a frame lies in its parent."""

    def __init__(self, parent: str, is_static: bool) -> None:
        self.parent, self.is_static = parent, is_static
        self.poses: list[_Pose] = []


class TransformBuffer:
    """The tree of frames, with some seconds of its history.

    Args:
        keep_s: how much history is kept of each moving frame [s].
        tolerance_s: how long a moving frame's newest and oldest poses hold beyond their time [s].
    """

    def __init__(self, keep_s: float = 10.0, tolerance_s: float = 0.1) -> None:
        self._keep_ns, self._tolerance_ns = round(keep_s * 1e9), round(tolerance_s * 1e9)
        self._links: dict[str, _Link] = {}
        self._went_back: set[str] = set()

    def set(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Sequence[float],
        quaternion: Sequence[float],
        *,
        is_static: bool,
    ) -> str:
        """Take a transform as a message has it: where the child lies in the parent.

        Args:
            parent: Name of the frame.
            child: Name of the frame.
            stamp_ns: [ns]
            translation: x, y, z [m].
            quaternion: x, y, z, w.
            is_static: Whether it holds at all times.

        Returns:
            Why it was not taken, in a sentence; empty if it was.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        pose = _Pose(stamp_ns, np.array(translation, np.float64), np.array(quaternion, np.float64))
        norm = float(np.linalg.norm(pose.quaternion))
        if not np.isfinite(norm + pose.translation.sum()) or norm < 1e-6:
            return (
                f"the transform of '{child}' in '{parent}' has numbers that are no place: translation "
                f"{list(translation)}, quaternion {list(quaternion)}"
            )
        if not child or child == parent:
            return f"the transform of '{child}' in '{parent}' joins no two frames"
        link = self._links.get(child)
        if link is None or link.parent != parent or link.is_static != is_static:
            link = self._links[child] = _Link(parent, is_static)
        pose = pose._replace(quaternion=pose.quaternion / norm)
        if is_static:
            link.poses = [pose]
            return ""
        # What was told before was true of another time under the same stamps.
        back_ns = link.poses[-1].stamp_ns - stamp_ns if link.poses else 0
        if back_ns > _REORDERED_NS:
            link.poses.clear()
        if back_ns > _ANEW_NS:
            self._begin_anew(child)
        place = bisect.bisect_left([p.stamp_ns for p in link.poses], stamp_ns)
        if place < len(link.poses) and link.poses[place].stamp_ns == stamp_ns:
            link.poses[place] = pose
        else:
            link.poses.insert(place, pose)
        oldest = link.poses[-1].stamp_ns - self._keep_ns
        del link.poses[: bisect.bisect_left([p.stamp_ns for p in link.poses], oldest)]
        return ""

    def _begin_anew(self, frame: str) -> None:
        """Forget all moving frames, once it is not only one that has gone back in time."""
        self._went_back.add(frame)
        if len(self._went_back) < _ANEW_FRAMES:
            return
        for child, link in self._links.items():
            # Those that went back have begun anew already.
            if not link.is_static and child not in self._went_back:
                link.poses.clear()
        self._went_back.clear()

    def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[Matrix, Matrix]:
        """The rotation (3, 3) and translation (3,) [m] from a frame's coordinates to another's.

        Raises:
            TransformError: a frame is not known, the two are not connected, or a moving one has no pose of
                that time.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return np.eye(3), np.zeros(3)
        known = {*self._links, *(link.parent for link in self._links.values())}
        for frame in (target, source):
            if not frame:
                which = f"to be seen from '{target}'" if target else f"that '{source}' is to be seen from"
                raise TransformError(f"a message {which} has no frame_id, and tf knows frames by their names")
            if frame not in known:
                names = ", ".join(f"'{name}'" for name in sorted(known)[:8]) or "no frame at all"
                raise TransformError(f"tf has no frame '{frame}'; it has {names}")
        above_target, above_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            raise TransformError(
                f"tf does not connect '{source}' with '{target}': their roots are '{above_source[-1]}' and "
                f"'{above_target[-1]}'"
            )
        source_rotation, source_translation = self._climb(above_source, common, stamp_ns)
        target_rotation, target_translation = self._climb(above_target, common, stamp_ns)
        rotation = target_rotation.T @ source_rotation
        return rotation, target_rotation.T @ (source_translation - target_translation)

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._links:
            chain.append(self._links[chain[-1]].parent)
            if chain[-1] in chain[:-1] or len(chain) > _MAX_DEPTH:
                raise TransformError(f"tf goes in a circle at '{chain[-1]}'")
        return chain

    def _climb(self, chain: list[str], top: str, stamp_ns: int) -> tuple[Matrix, Matrix]:
        rotation, translation = np.eye(3), np.zeros(3)
        for frame in chain[: chain.index(top)]:
            pose = self._pose(frame, stamp_ns)
            turn = rotation_matrix(pose.quaternion)
            rotation, translation = turn @ rotation, turn @ translation + pose.translation
        return rotation, translation

    def _pose(self, frame: str, stamp_ns: int) -> _Pose:
        link = self._links[frame]
        if link.is_static:
            return link.poses[0]
        if not link.poses:
            raise TransformError(
                f"'{frame}' in '{link.parent}' has had no transform since the clock was set back"
            )
        first, last = link.poses[0], link.poses[-1]
        if stamp_ns > last.stamp_ns + self._tolerance_ns:
            late_s = (stamp_ns - last.stamp_ns) / 1e9
            raise TransformError(
                f"the newest transform of '{frame}' in '{link.parent}' is {late_s:.2f} s older than the "
                "sensor's message: its publisher is late, or the clocks differ"
            )
        if stamp_ns < first.stamp_ns - self._tolerance_ns:
            early_s = (first.stamp_ns - stamp_ns) / 1e9
            raise TransformError(
                f"the oldest transform of '{frame}' in '{link.parent}' is {early_s:.2f} s newer than the "
                "sensor's message: that is too old, or tf is from the future"
            )
        place = bisect.bisect_left([pose.stamp_ns for pose in link.poses], stamp_ns)
        if place == 0:
            return first
        if place == len(link.poses):
            return last
        return _between(link.poses[place - 1], link.poses[place], stamp_ns)


def rotation_matrix(quaternion: Sequence[float] | Matrix) -> Matrix:
    """The rotation (3, 3) of a quaternion x, y, z, w of any length above 0."""
    x, y, z, w = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _between(before: _Pose, after: _Pose, stamp_ns: int) -> _Pose:
    share = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
    translation = before.translation + share * (after.translation - before.translation)
    # A quaternion and its negative are one rotation; the short way is meant.
    dot = float(before.quaternion @ after.quaternion)
    end = after.quaternion if dot >= 0 else -after.quaternion
    angle = float(np.arccos(min(1.0, abs(dot))))
    if angle < 1e-6:
        return _Pose(stamp_ns, translation, end)
    quaternion = np.sin((1 - share) * angle) * before.quaternion + np.sin(share * angle) * end
    return _Pose(stamp_ns, translation, quaternion / np.sin(angle))
