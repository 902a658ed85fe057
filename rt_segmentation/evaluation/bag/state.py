"""What is known of a bag so far; kept on disk, so that an evaluation that was killed can go on."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rt_segmentation.bags.rates import Played
from rt_segmentation.evaluation.bag.ids import UnknownIds
from rt_segmentation.evaluation.bag.shown import Shown
from rt_segmentation.evaluation.bag.tally import Timeline
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.files import write_atomically
from rt_segmentation.imaging.codec import encode_png

FRAME = "{frame}"
"""Stands in a sentence for the frames that it is about."""
NO_VIDEO = "a video cannot be continued"


@dataclass(frozen=True)
class Ran:
    """What ran a model.

    Attributes:
        engine, precision, device: of the engine.
        input_size: (width, height) of what the network got [px].
        engine_fps: of the engine alone.
    """

    engine: str
    precision: str
    device: str
    input_size: tuple[int, int]
    engine_fps: float


@dataclass
class BagFacts:
    """A bag, as in the result."""

    path: str
    start_ns: int = 0
    duration_s: float = 0.0
    image_topic: str | None = None
    label_topic: str | None = None
    lost: int | None = None
    problem: str | None = None


@dataclass
class ModelState:
    """One model on a bag.

    Attributes:
        timeline: the sums.
        shown: the worst frames.
        previous: the labels of the last mask, uint8 (H, W).
        ran: None before the first frame.
    """

    timeline: Timeline
    shown: list[Shown] = field(default_factory=list)
    previous: np.ndarray | None = None
    ran: Ran | None = None

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types."""
        previous = None if self.previous is None else base64.b64encode(encode_png(self.previous)).decode()
        shown = [one.to_plain() for one in self.shown]
        return {
            "timeline": self.timeline.to_plain(),
            "shown": shown,
            "previous": previous,
            "engine": None if self.ran is None else asdict(self.ran),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> ModelState:
        """The inverse of `to_plain`."""
        previous = None
        if plain["previous"] is not None:
            data = np.frombuffer(base64.b64decode(plain["previous"]), np.uint8)
            previous = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        shown = [Shown(**one) for one in plain["shown"]]
        ran = None
        if plain["engine"]:
            ran = Ran(**{**plain["engine"], "input_size": tuple(plain["engine"]["input_size"])})
        return cls(Timeline.from_plain(plain["timeline"]), shown, previous, ran)


@dataclass
class BagState:
    """One bag.

    Attributes:
        bag: what is known of it.
        models: in the order asked for.
        last_ns: recorded time of the last frame that is counted; None before the first.
        played: for how long they came.
        next_index: how many image messages are counted.
        intervals: when it was worked on, as pairs of seconds since the epoch.
        problems: sentences about the bag.
        frame_problems: what was wrong with frames, by kind: their number, the index of the first and of the
            last one, and a sentence with `FRAME` in it.
        unwritten: sentences about videos, pictures and states that could not be written.
        notes: sentences about what was chosen.
        masks: as `MaskBag.closed`.
        paired: how many images have labels, sound or not.
        apart_ns: for the first images without, by how much the nearest labels are later.
        moments_ns: the least and the greatest time by which images are paired with labels; empty before the
            first.
        unknown_ids: of the ground truth that was compared with masks.
        complete: whether the bag's end was reached.
    """

    bag: BagFacts
    models: list[ModelState]
    last_ns: int | None = None
    played: Played = field(default_factory=lambda: Played(0))
    next_index: int = 0
    intervals: list[list[float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    frame_problems: dict[str, list[Any]] = field(default_factory=dict)
    unwritten: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    masks: list[int] = field(default_factory=lambda: [0, 0])
    paired: int = 0
    apart_ns: list[int] = field(default_factory=list)
    moments_ns: list[int] = field(default_factory=list)
    unknown_ids: UnknownIds = field(default_factory=UnknownIds)
    complete: bool = False

    def sentences(self) -> list[str]:
        """All problems but the bag's own: those of the bag, then a line for each kind of those of frames."""
        lines = [*self.problems, *self.unwritten]
        for count, first, _, sentence in self.frame_problems.values():
            more = f" and {count - 1} more" if count > 1 else ""
            lines.append(sentence.replace(FRAME, f"frame {first}{more}", 1))
        return lines

    def save(self, path: Path, asked: dict[str, Any]) -> None:
        """Write the state; `asked` says of what."""
        models = [model.to_plain() for model in self.models]
        content = {"asked": asked, **vars(self), "bag": asdict(self.bag), "models": models}
        content.update(played=asdict(self.played), unknown_ids=asdict(self.unknown_ids))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content).encode())

    @classmethod
    def load(cls, path: Path, asked: dict[str, Any]) -> BagState | None:
        """Read a state; None where there is none.

        Raises:
            EvaluationError: it is of another evaluation, or damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            before = content.pop("asked")
            models = [ModelState.from_plain(plain) for plain in content.pop("models")]
            content["played"] = Played(**content["played"])
            content["unknown_ids"] = UnknownIds(**content["unknown_ids"])
            state = cls(BagFacts(**content.pop("bag")), models, **content)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise EvaluationError(
                f"state {path} is damaged ({error!r}); start anew with --overwrite"
            ) from error
        if before.get("video") and not asked["video"]:
            before["video"] = False
            if not state.complete:
                state.problems.append(
                    f"{NO_VIDEO}: there is none of what comes after frame {state.next_index - 1}"
                )
        for key, value in asked.items():
            if before.get(key) != value:
                raise EvaluationError(
                    f"state {path} is of an evaluation with {key} {before.get(key)}, not {value};"
                    " resume with the same arguments, or start anew with --overwrite"
                )
        return state
