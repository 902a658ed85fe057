"""The result of an evaluation, and its file evaluation.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.settings import SettingsError, read_mapping, read_settings, to_plain

FORMAT = "rt_segmentation bag evaluation 1"


class ReportError(RtSegmentationError, ValueError):
    """A result that cannot be read or shown, or a threshold out of range; the message says which."""


@dataclass(frozen=True)
class BagResult:
    """A bag.

    Attributes:
        path: of the bag.
        duration_s: from its first message to its last one.
        image_topic, label_topic: what was read; None where there was none.
        lost: messages of the images that could not be read; None where that is not known.
        problem: what is wrong with it; None for a whole bag.
        frames: images that were counted.
        frames_span_s: from the first of them to the last, without pauses of the recording.
        start_ns: recorded time of the first message.
    """

    path: str
    duration_s: float
    image_topic: str | None
    label_topic: str | None
    lost: int | None
    problem: str | None
    frames: int
    frames_span_s: float
    start_ns: int = 0


@dataclass(frozen=True)
class ClassColor:
    """A class of the models' label set, with its colour (R, G, B)."""

    name: str
    color: tuple[int, int, int]


@final
@dataclass(frozen=True)
class Latency:
    """Durations of frames [ms]."""

    min: float
    p50: float
    p95: float
    max: float
    mean: float


@dataclass(frozen=True)
class Histogram:
    """How many frames took how long: n counts between n + 1 edges [ms]."""

    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]


@final
@dataclass(frozen=True)
class Accuracy:
    """How far a model's labels are those of the ground truth; scores are fractions, None or NaN without any.

    Attributes:
        frames: with a labelled pixel.
        mean_iou: of the classes.
        interval: that holds 95 % of the bootstrap's draws of it; None with too few frames.
        class_iou: by the class's name.
        class_average, global_average: accuracy of the pixels, by class and of all.
        confusion: pixels by true class (rows) and predicted one; the last column is of no class.
        calibration_error: expected, of the confidence, 0 to 1; None where that was not computed.
    """

    frames: int
    mean_iou: float | None
    interval: tuple[float | None, float | None] | None
    class_iou: dict[str, float | None]
    class_average: float | None
    global_average: float | None
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float | None = None


@dataclass(frozen=True)
class TimelineBin:
    """What happened in a part of the recording.

    Attributes:
        t_s, span_s: its begin and its length.
        received, segmented, dropped: frames.
        latency_p50_ms, latency_max_ms: None where no frame was segmented.
        shares: of the pixels, by class.
        confidence, consistency, mean_iou: fractions; None where they were not measured.
        bag: which bag.
    """

    t_s: float
    span_s: float
    received: int
    segmented: int
    dropped: int
    latency_p50_ms: float | None
    latency_max_ms: float | None
    shares: tuple[float | None, ...] | None
    confidence: float | None
    consistency: float | None
    mean_iou: float | None
    bag: int = 0


@dataclass(frozen=True)
class ShownFrame:
    """A frame with pictures; see `Shown`."""

    bag: int
    index: int
    t_s: float
    mean_iou: float | None
    confidence: float | None
    image: str
    overlay: str
    truth: str | None
    consistency: float | None = None


@dataclass(frozen=True)
class ModelResult:
    """What a model did on all bags.

    Attributes:
        name, network: of the model.
        engine, precision, device, input_size: what ran, at (width, height) [px]; None where nothing did.
        received, segmented: frames.
        dropped: frames by reason.
        drop_rate: share of the received frames; None without any.
        fps: masks per second; engine_fps: of the engine alone.
        latency_ms, inference_ms, age_ms: None where no frame was segmented.
        latency_histogram: of latency_ms.
        accuracy: None without ground truth.
        class_shares: of the pixels, by the class's name.
        mean_confidence, temporal_consistency: fractions; None where they were not measured.
        timeline: parts of the recording, in order.
        shown: the worst frames first.
    """

    name: str
    network: str
    engine: str | None
    precision: str | None
    device: str | None
    input_size: tuple[int, int] | None
    received: int
    segmented: int
    dropped: dict[str, int]
    drop_rate: float | None
    fps: float | None
    engine_fps: float | None
    latency_ms: Latency | None
    inference_ms: Latency | None
    latency_histogram: Histogram
    accuracy: Accuracy | None
    class_shares: dict[str, float | None]
    mean_confidence: float | None
    temporal_consistency: float | None
    timeline: tuple[TimelineBin, ...]
    shown: tuple[ShownFrame, ...]
    age_ms: Latency | None = None


@dataclass(frozen=True)
class Comparison:
    """The mean IoU of model `a` minus that of model `b`, and whether the difference is more than noise."""

    a: str
    b: str
    difference: float
    interval: tuple[float, float]
    significant: bool
    method: str


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known after an evaluation.

    Attributes:
        partial: it did not come to its end.
        problems, notes: sentences.
        mode, rate: 'throughput', or 'realtime' at so many times the recorded speed.
        command, commit, date, machine, versions: how it was made.
        bags, classes, models, comparisons: see there.
        lacks_truth: ground truth was asked for, and none could be used.
        parallel_frames: frames segmented concurrently in mode 'realtime'; None in the other.
        unwritten: how many videos, galleries and states could not be written; the problems say why.
    """

    partial: bool
    problems: tuple[str, ...]
    mode: str
    rate: float
    command: str
    commit: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    bags: tuple[BagResult, ...]
    classes: tuple[ClassColor, ...]
    models: tuple[ModelResult, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    lacks_truth: bool = False
    parallel_frames: int | None = None
    unwritten: int = 0

    def to_plain(self) -> dict[str, Any]:
        """As JSON's types, NaN left as it is."""
        return {"format": FORMAT, **to_plain(self)}


def from_plain(content: dict[str, Any]) -> Evaluation:
    """The inverse of `Evaluation.to_plain`.

    Raises:
        ReportError: it is something else, or a key of it is wrong.
    """
    found = content.get("format")
    if found != FORMAT:
        raise ReportError(f"not the result of a bag evaluation: its format is {found!r}, not '{FORMAT}'")
    try:
        return read_settings(Evaluation, {key: value for key, value in content.items() if key != "format"})
    except SettingsError as error:
        raise ReportError(str(error)) from error


def read_result(path: Path) -> Evaluation:
    """The result in a file that `rt_seg evaluate-bag` wrote.

    Raises:
        ReportError: the file is not such a result.
    """
    content = read_mapping(path, "result", ReportError)
    try:
        return from_plain(content)
    except ReportError as error:
        raise ReportError(f"result {path}: {error}; `rt_seg evaluate-bag` writes one") from error
