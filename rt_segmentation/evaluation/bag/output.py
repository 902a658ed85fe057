"""What an evaluation writes besides numbers: a bag of masks, and videos of overlays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rt_segmentation.bags import messages
from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.frames import COMPRESSED_IMAGE, IMAGE
from rt_segmentation.bags.writing import BagWriter
from rt_segmentation.evaluation.bag.clouds import POINT_CLOUD, BagClouds
from rt_segmentation.evaluation.bag.outcome import Segmented
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.render import colorize, overlay
from rt_segmentation.imaging.video import VideoWriter
from rt_segmentation.labels import LabelSet

SPLIT_S = 10.0


@contextmanager
def _not_the_input() -> Iterator[None]:
    """A bag that cannot be written ends the evaluation, one that cannot be read only its own part of it."""
    try:
        yield
    except BagError as error:
        raise EvaluationError(str(error)) from error


class MaskBag:
    """A bag with the topics of the node for each model, as `/enet_town/label`, in splits of 10 s.

    Stamps, frame_ids and recorded times are those of the images. Labels and confidence are stored as they
    are, colours and overlays as JPEG.

    Args:
        path: the bag's folder.
        names: of the models.
        labels: their label set.
        closed: what this attribute was when the state was saved that is gone on from; None for a new bag.
        clouds: whose labelled clouds go into the bag as well, as `/enet_town/points`; None for none.

    Attributes:
        closed: a frame, by its index, and how many messages the bag has before it, all in closed splits:
            `write` wants that frame first, and leaves out what is in closed splits nevertheless.

    Raises:
        EvaluationError: the bag cannot be written; `write` and `close` raise it as well.
    """

    @_not_the_input()
    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        labels: LabelSet,
        closed: tuple[int, int] | None = None,
        clouds: BagClouds | None = None,
    ) -> None:
        self._clouds = clouds
        is_new = closed is None
        self._writer = BagWriter(path, overwrite=is_new, resume=not is_new, split_s=SPLIT_S)
        self._types = self._writer.types
        known = self._writer.closed_messages
        # A bag that has less was changed by others: its masks are taken for the first ones.
        self.closed = closed if closed is not None and closed[1] <= known else (0, 0)
        self._index: int | None = None
        self._before = self._messages = self.closed[1]
        self._to_leave_out = known - self.closed[1]
        self._names, self._palette = names, labels.palette()

    @_not_the_input()
    def write(self, outcome: Segmented) -> None:
        """Write a frame's masks; frames come in their order, and all models' masks of each."""
        recorded_ns = outcome.source.message.recorded_ns
        if outcome.source.index != self._index:
            self._index, self._before = outcome.source.index, self._messages
        name, frame, result = self._names[outcome.model], outcome.frame, outcome.result
        header = messages.header(self._types, frame.stamp_ns, frame.frame_id)
        color = colorize(result.labels, self._palette)
        covered = overlay(to_rgb(frame), result.labels, self._palette)
        latency = self._types.types["std_msgs/msg/Float64"](outcome.latency_ns / 1e6)
        contents = {
            "label": (IMAGE, messages.image(self._types, header, result.labels)),
            "color/compressed": (COMPRESSED_IMAGE, messages.compressed_image(self._types, header, color)),
            "overlay/compressed": (COMPRESSED_IMAGE, messages.compressed_image(self._types, header, covered)),
            "latency_ms": ("std_msgs/msg/Float64", latency),
        }
        if result.confidence is not None:
            contents["confidence"] = (IMAGE, messages.image(self._types, header, result.confidence))
        if self._clouds is not None:
            found = self._clouds.labelled(outcome.source.message, result.labels, result.confidence, color)
            if found is not None:
                stamp_ns, frame_id, points = found
                own = messages.header(self._types, stamp_ns, frame_id)
                contents["points"] = (POINT_CLOUD, messages.cloud(self._types, own, points))
        known = self._writer.closed_messages
        for topic, (kind, content) in contents.items():
            if self._messages - self.closed[1] >= self._to_leave_out:
                self._writer.write(f"/{name}/{topic}", kind, recorded_ns, content)
            self._messages += 1
        if self._writer.closed_messages != known:
            self.closed, self._to_leave_out = (self._index, self._before), 0

    @_not_the_input()
    def close(self) -> None:
        """Close the bag; it can be opened then."""
        self._writer.close()
        if self._index is not None:
            # Of the last frame there may be some messages.
            self.closed = self._index, self._before


class OverlayVideo:
    """An mp4 (MPEG-4 part 2) of overlays, one picture for each mask, at a constant rate.

    Where it cannot be written there is none, and `problem` says so.

    Args:
        path: of the .mp4.
        labels: for the colours.
        rate_hz: pictures per second.

    Attributes:
        problem: why there is no video, in a sentence, or ''.
    """

    def __init__(self, path: Path, labels: LabelSet, rate_hz: float) -> None:
        self._path, self._palette = path, labels.palette()
        self._writer = VideoWriter(path, rate_hz)
        self.problem = ""

    def write(self, outcome: Segmented) -> None:
        """Add a picture; its size is that of the first."""
        if self.problem:
            return
        picture = overlay(to_rgb(outcome.frame), outcome.result.labels, self._palette)
        with self._noting():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer.write(picture)

    def close(self) -> None:
        """Finish the file."""
        with self._noting():
            self._writer.close()

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = str(error)
