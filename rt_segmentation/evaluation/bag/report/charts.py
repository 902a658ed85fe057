"""The charts of a model: a histogram of its latencies, and what changed over the time of the recording."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from rt_segmentation.evaluation.bag.report.drawing import (
    HEIGHT,
    WIDTH,
    Chart,
    Tick,
    bar,
    linear_ticks,
    log_ticks,
    round_numbers,
    vertical,
)
from rt_segmentation.evaluation.bag.report.wording import (
    IN_MINUTES_S,
    clock,
    measured,
    number,
    percent,
    plural,
)
from rt_segmentation.evaluation.bag.result import ClassColor, ModelResult, TimelineBin

GAP_STEPS = 3.0
"""A gap is drawn between bins that are further apart than this number of usual steps."""
QUALITIES = {"mean_iou": "mean IoU", "confidence": "confidence", "consistency": "temporal consistency"}
SHARE_TICKS = [Tick(0.0, "0 %"), Tick(0.5, "50 %"), Tick(1.0, "100 %")]


def histogram(model: ModelResult) -> Chart | None:
    """Latencies on a logarithmic axis with marks at the median and the 95th percentile; None without any."""
    edges, counts = model.latency_histogram.edges_ms, model.latency_histogram.counts
    used = [i for i, count in enumerate(counts) if count]
    summary = model.latency_ms
    if not used or summary is None:
        return None
    edges, counts = edges[used[0] : used[-1] + 2], counts[used[0] : used[-1] + 1]
    # An edge of 0 ms has no place on a logarithmic axis.
    low, high = max(edges[0], edges[1] / 10), edges[-1]

    def place(ms: float) -> float:
        share = math.log(max(ms, low) / low) / math.log(high / low)
        return WIDTH * min(share, 1.0)

    top = max(counts)
    parts = []
    for left, right, count in zip(edges, edges[1:], counts):
        title = f"{number(left)} to {number(right)} ms: {plural(count, 'frame')}"
        parts.append(bar("bar", place(left), place(right), HEIGHT * count / top, title))
    parts += [vertical(f"mark {name}", place(getattr(summary, name))) for name in ("p50", "p95")]
    label = (
        f"Histogram of latency: median {number(summary.p50)} ms,"
        f" 95th percentile {number(summary.p95)} ms,"
        f" from {number(summary.min)} to {number(summary.max)} ms."
    )
    ticks = [Tick(place(ms) / WIDTH, f"{ms:g}") for ms in log_ticks(low, high)]
    return Chart(label, "".join(parts), ticks, linear_ticks(top, 4), "latency [ms], logarithmic", "frames")


class TimeCharts:
    """The charts of a model whose horizontal axis is the time of the recording.

    Args:
        model: of the result, with at least one bin in its timeline.
    """

    def __init__(self, model: ModelResult) -> None:
        self._model = model
        self._bins: Sequence[TimelineBin] = sorted(model.timeline, key=lambda b: float(b.t_s))
        starts = [float(b.t_s) for b in self._bins]
        # After a bin shorter than the camera's period come empty ones, which are no gaps in the recording.
        longest = GAP_STEPS * median([after - t for t, after in pairwise(starts)] or [0.0])
        ends = [t + float(b.span_s) for t, b in zip(starts, self._bins)]
        for i, after in enumerate(starts[1:]):
            if after - starts[i] <= longest:
                ends[i] = after
        self._end_s = max(*ends, 1e-3)
        self._spans = [(WIDTH * t / self._end_s, WIDTH * end / self._end_s) for t, end in zip(starts, ends)]

    def latency(self) -> Chart | None:
        """Median and worst latency of each bin; None where none was measured."""
        if not self._values("latency_max_ms"):
            return None
        top = max(self._values("latency_max_ms")) or 1.0
        parts = [
            self._line("line worst", "latency_max_ms", top),
            self._line("line median", "latency_p50_ms", top),
            self._titles(
                lambda b: f"median {number(b.latency_p50_ms)} ms, worst {number(b.latency_max_ms)} ms"
            ),
        ]
        label = f"Latency over time: the worst frame took {number(top)} ms."
        return self._chart(label, parts, linear_ticks(top, 4), "ms")

    def drops(self) -> Chart | None:
        """Share of each bin's frames that was dropped; None where none was.

        A share, and no rate: bins may be shorter than the camera's period, and rates in them would flicker.
        """
        dropped, received = (sum(getattr(b, key) for b in self._bins) for key in ("dropped", "received"))
        if not dropped:
            return None
        parts = [
            bar("dropped", left, right, HEIGHT * b.dropped / max(b.received, 1))
            for b, (left, right) in zip(self._bins, self._spans)
            if b.dropped
        ]
        parts.append(self._titles(lambda b: f"{b.dropped} of {plural(b.received, 'frame')} dropped"))
        label = f"Dropped frames over time: {dropped:,} of {received:,}."
        return self._chart(label, parts, SHARE_TICKS, "of the frames")

    def qualities(self) -> list[str]:
        """Which qualities were measured in any bin, by key."""
        return [key for key in QUALITIES if self._values(key)]

    def quality(self) -> Chart | None:
        """Mean IoU, confidence and temporal consistency of each bin; None where none was measured."""
        there = self.qualities()
        if not there:
            return None
        parts = [self._line(f"line {key}", key, 1.0) for key in there]
        parts.append(
            self._titles(
                lambda b: ", ".join(f"{QUALITIES[key]} {number(getattr(b, key), 2)}" for key in there)
            )
        )
        lows = ", ".join(f"{QUALITIES[key]} at least {number(min(self._values(key)), 2)}" for key in there)
        return self._chart(f"Quality over time: {lows}.", parts, linear_ticks(1.0, 2), "0 to 1")

    def shares(self, classes: Sequence[ClassColor]) -> Chart:
        """Classes' shares of the pixels, stacked, the first class at the bottom."""
        sums = [[0.0] for _ in self._bins]
        for b, own in zip(self._bins, sums):
            for i in range(len(classes)):
                own.append(own[-1] + (measured(b.shares[i]) or 0.0 if b.shares else 0.0))
        parts = []
        # Painted from the uppermost down, each area reaches to the bottom: neighbours leave no seam.
        for i, c in reversed(list(enumerate(classes))):
            if any(own[i + 1] > own[i] for own in sums):
                red, green, blue = c.color
                area = self._area([own[i + 1] for own in sums])
                parts.append(f'<path fill="#{red:02x}{green:02x}{blue:02x}" d="{area}"/>')
        parts.append(self._titles(lambda b: _largest(zip((c.name for c in classes), b.shares or []))))
        largest = _largest(self._model.class_shares.items())
        label = f"Classes' shares of the pixels over time. Largest: {largest}."
        return self._chart(label, parts, SHARE_TICKS, "of the pixels")

    def _chart(self, label: str, parts: Iterable[str], y: list[Tick], unit: str) -> Chart:
        unit_s, unit_x = (60, "time [min:s]") if self._end_s >= IN_MINUTES_S else (1, "time [s]")
        times = [unit_s * value for value in round_numbers(self._end_s / unit_s, 5)]
        ticks = [Tick(t / self._end_s, clock(t, self._end_s)) for t in times]
        return Chart(label, "".join(parts), ticks, y, unit_x, unit)

    def _values(self, key: str) -> list[float]:
        return [value for b in self._bins if (value := measured(getattr(b, key))) is not None]

    def _line(self, css_class: str, key: str, top: float) -> str:
        """A line through the middles of the bins, broken at gaps and where nothing was measured."""
        path, reached = [], None
        for b, (left, right) in zip(self._bins, self._spans):
            value = measured(getattr(b, key))
            if value is None:
                reached = None
                continue
            y = HEIGHT * (1 - value / top)
            # A line without length shows a point between two gaps, by its round end.
            pen = "L" if reached == left else f"M{(left + right) / 2:.1f} {y:.1f}L"
            path.append(f"{pen}{(left + right) / 2:.1f} {y:.1f}")
            reached = right
        return f'<path class="{css_class}" d="{"".join(path)}"/>'

    def _area(self, tops: Sequence[float]) -> str:
        """A step a bin, down to the bottom at gaps."""
        path, reached = [f"M0 {HEIGHT:g}"], 0.0
        for (left, right), top in zip(self._spans, tops):
            if left != reached:
                path.append(f"V{HEIGHT:g}H{left:.1f}")
            path.append(f"V{HEIGHT * (1 - min(top, 1.0)):.1f}H{right:.1f}")
            reached = right
        return "".join(path) + f"V{HEIGHT:g}Z"

    def _titles(self, text: Callable[[TimelineBin], str]) -> str:
        """Invisible columns that say a bin's numbers when a pointer rests on them."""
        return "".join(
            bar("hit", left, right, HEIGHT, f"{clock(b.t_s, self._end_s)}: {text(b)}")
            for b, (left, right) in zip(self._bins, self._spans)
        )


def _largest(shares: Iterable[tuple[str, Any]]) -> str:
    """The three classes with the largest shares."""
    ordered = sorted(shares, key=lambda item: -(measured(item[1]) or 0.0))
    return ", ".join(f"{name} {percent(share, 0)}" for name, share in ordered[:3])
