"""Numbers and sentences, the same on the page and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rt_segmentation.evaluation.bag.result import Accuracy, BagResult, Comparison, Evaluation, ModelResult

NOT_MEASURED = "n/a"
IN_MINUTES_S = 120
"""Recordings of this length or more have their times in minutes [s]."""
PARTIAL = "Partial: the evaluation was interrupted. All numbers are of what was read until then."
CLAUSE = tuple[str, str, str]
"""Words before a number, the number with its unit, words after."""


def measured(value: float | None) -> float | None:
    """The number, or None where there is none: null and NaN are the same to a reader."""
    return None if value is None or not math.isfinite(value) else float(value)


def number(value: float | None, digits: int = 1) -> str:
    """As '1,234.5'."""
    found = measured(value)
    return NOT_MEASURED if found is None else f"{found:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction, as '12.3 %'."""
    found = measured(value)
    return NOT_MEASURED if found is None else f"{100 * found:.{digits}f} %"


def score(value: float | None) -> str:
    """An IoU, as '0.578'."""
    return number(value, 3)


def interval(bounds: Sequence[float | None] | None, signed: bool = False) -> str:
    """As '0.540 to 0.600'; empty without one."""
    if bounds is None or any(measured(bound) is None for bound in bounds):
        return ""
    return " to ".join(f"{bound:+.3f}" if signed else f"{bound:.3f}" for bound in bounds)


def seconds(value: float | None) -> str:
    """A duration, as '12.3 s' or '1 h 02 min'."""
    found = measured(value)
    if found is None:
        return NOT_MEASURED
    if found < IN_MINUTES_S:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, thing: str) -> str:
    """As '1 frame' or '2 frames'."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def engine(model: ModelResult) -> str:
    """What executed a model, as 'openvino bf16'."""
    return f"{model.engine} {model.precision}" if model.engine else NOT_MEASURED


def summary(result: Evaluation) -> str:
    """What was measured, in a line."""
    bags = result.bags
    parts = [
        plural(len(result.models), "model"),
        plural(len(bags), "bag"),
        plural(sum(bag.frames for bag in bags), "frame"),
        seconds(sum(bag.duration_s for bag in bags)),
    ]
    if result.mode == "realtime":
        speed = "" if result.rate == 1 else f", {result.rate:g} times as fast as recorded"
        parallel = result.parallel_frames or 1
        speed += f", {parallel} were segmented concurrently" if parallel > 1 else ""
        return ", ".join(parts) + f"; frames came as from the camera{speed} (real-time mode)"
    return ", ".join(parts) + "; every frame, as fast as it goes (throughput mode)"


def verdict(model: ModelResult, result: Evaluation) -> list[CLAUSE]:
    """How good and how fast a model was, as clauses of a sentence."""
    return [_accuracy(model.accuracy), _speed(model, result), _latency(model), _drops(model, result)]


def _accuracy(accuracy: Accuracy | None) -> CLAUSE:
    if accuracy is None or measured(accuracy.mean_iou) is None:
        return "", "Accuracy not measured", ": there was no ground truth"
    bounds = interval(accuracy.interval)
    frames = plural(accuracy.frames, "labelled frame")
    after = f" ({bounds}, 95 % interval) on {frames}" if bounds else f" on {frames}"
    return "Mean IoU ", score(accuracy.mean_iou), after


def _speed(model: ModelResult, result: Evaluation) -> CLAUSE:
    fps = measured(model.fps)
    if fps is None:
        return "", "speed not measured", ""
    value = f"{fps:.1f} frames per second"
    recorded = recorded_fps(result.bags)
    if result.mode == "realtime" or recorded is None:
        return "", value, ""
    ratio = fps / recorded
    kept = "it keeps up with" if ratio >= 1 else "too slow for"
    return "", value, f", {ratio:.2g} x the recorded rate: {kept} the camera"


def _latency(model: ModelResult) -> CLAUSE:
    latency = model.latency_ms
    if latency is None:
        return "", "latency not measured", ""
    return "95 % of the masks ready within ", f"{number(latency.p95)} ms", ""


def _drops(model: ModelResult, result: Evaluation) -> CLAUSE:
    dropped = sum(model.dropped.values())
    if not model.received:
        return "", "no frame came", ""
    if result.mode == "realtime":
        if not dropped:
            return "", "no frame dropped", ": it kept up"
        return (
            "",
            f"{percent(model.drop_rate)} of the frames dropped",
            f" ({dropped:,} of {model.received:,})",
        )
    return "", f"{plural(dropped, 'frame')} dropped" if dropped else "no frame dropped", ""


def recorded_fps(bags: Sequence[BagResult]) -> float | None:
    """Compute the frame rate of the recording without its pauses [Hz]; None with less than two frames."""
    span_s = sum(bag.frames_span_s for bag in bags)
    return sum(max(bag.frames - 1, 0) for bag in bags) / span_s if span_s > 0 else None


def difference(comparison: Comparison) -> str:
    """Which of two models is better, and whether that is more than noise."""
    a, b = comparison.a, comparison.b
    by, bounds = comparison.difference, comparison.interval
    better, worse = (a, b) if by >= 0 else (b, a)
    if by < 0:
        bounds = (-bounds[1], -bounds[0])
    text = f"{better} is better than {worse} by {abs(by):.3f} ({interval(bounds, signed=True)})"
    return text + (": more than noise" if comparison.significant else ": this may be noise")


def unmeasured(result: Evaluation) -> list[str]:
    """Sentences about what the report leaves out."""
    without = [model.name for model in result.models if model.accuracy is None]
    if not without:
        return []
    whose = "" if len(without) == len(result.models) else f" for {', '.join(without)}"
    return [f"There was no ground truth{whose}: IoU and confusion are left out."]


def clock(t_s: float, end_s: float) -> str:
    """A time of the recording, as '12.5' in a short one and as '3:20' in a longer one."""
    return f"{t_s:.4g}" if end_s < IN_MINUTES_S else f"{int(t_s) // 60}:{int(t_s) % 60:02d}"
