"""Sums over frames: exact, in any order, in bounded memory."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from rt_segmentation.evaluation.bag.compare import compare, draw_mean_ious
from rt_segmentation.evaluation.bag.durations import Durations, covered_s
from rt_segmentation.evaluation.bag.tally import BIN_NS, Counts, Timeline
from rt_segmentation.evaluation.bootstrap import DRAWS, interval
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.evaluation.reliability import Reliability

CLASSES = 3


def frame_counts(seed: int, right: float = 0.7) -> Counts:
    """What a frame of random labels adds, of which a share of the pixels is right."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES, (8, 8)).astype(np.uint8)
    predicted = np.where(rng.random((8, 8)) < right, truth, (truth + 1) % CLASSES).astype(np.uint8)
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(truth, predicted)
    counts = Counts(CLASSES)
    counts.received = counts.segmented = counts.labelled = 1
    counts.confusion = matrix.counts
    counts.pixels[:-1] = np.bincount(predicted.ravel(), minlength=CLASSES)
    counts.latency.record(int(rng.integers(10**6, 10**8)))
    counts.dropped["replaced"] = int(rng.integers(0, 3))
    return counts


def timeline(frames: int, step_ns: int = BIN_NS, max_bins: int = 64, right: float = 0.7) -> Timeline:
    line = Timeline(CLASSES, max_bins)
    for i in range(frames):
        line.add(i * step_ns, frame_counts(i, right))
    return line


@pytest.mark.parametrize("percent", [1, 50, 95, 99.9])
def test_percentiles_are_right_to_half_a_percent(percent: float) -> None:
    values = np.random.default_rng(0).lognormal(17, 1.5, 5000).astype(np.int64)
    durations = Durations()
    for value in values:
        durations.record(int(value))
    expected = float(np.sort(values)[math.ceil(percent / 100 * len(values)) - 1]) / 1e6
    assert durations.percentile_ms(percent) == pytest.approx(expected, rel=0.0051)
    summary = durations.summary()
    assert summary is not None
    assert summary["min"] == values.min() / 1e6 and summary["max"] == values.max() / 1e6
    assert summary["mean"] == pytest.approx(values.mean() / 1e6)


def test_a_histograms_columns_hold_every_duration_between_their_edges() -> None:
    durations = Durations()
    values = [1, 999, 10**6, 2 * 10**6, 2 * 10**6, 10**9]
    for value in values:
        durations.record(value)
    columns = durations.histogram()
    expected, _ = np.histogram(np.array(values) / 1e6, columns["edges_ms"])
    assert columns["counts"] == expected.tolist() and sum(columns["counts"]) == len(values)
    assert Durations().summary() is None and Durations().histogram() == {"edges_ms": [], "counts": []}


def test_counts_add_to_the_same_in_any_order() -> None:
    parts = [frame_counts(i) for i in range(20)]
    plain = []
    for order in (parts, parts[::-1], parts[::2] + parts[1::2]):
        total = Counts(CLASSES)
        for part in order:
            total.add(part)
        plain.append(json.dumps(total.to_plain(), sort_keys=True))
    assert plain[0] == plain[1] == plain[2]
    assert total.received == 20 and total.latency.count == 20 and total.confusion.sum() == 20 * 64


def test_a_timeline_has_few_bins_however_long_the_bag_and_loses_nothing() -> None:
    frames = 1000
    line = timeline(frames)
    assert 32 < len(line.bins) <= 64
    assert line.width_ns == BIN_NS * 16
    for number, counts in line.bins.items():
        first, last = (number * line.width_ns // BIN_NS, min((number + 1) * line.width_ns // BIN_NS, frames))
        assert counts.received == last - first
    whole = Counts(CLASSES)
    for i in range(frames):
        whole.add(frame_counts(i))
    assert line.total().to_plain() == whole.to_plain()


def test_a_pause_in_the_bag_costs_no_bins() -> None:
    line = Timeline(CLASSES, 4)
    for time_ns in (0, 10**15, 10**15 + BIN_NS):
        line.add(time_ns, frame_counts(0))
    assert line.width_ns == BIN_NS and len(line.bins) == 3


def test_what_is_stored_comes_back_the_same() -> None:
    line = timeline(100)
    stored = json.loads(json.dumps(line.to_plain()))
    back = Timeline.from_plain(stored)
    back.add(10**9, frame_counts(7))
    line.add(10**9, frame_counts(7))
    assert back.to_plain() == line.to_plain() and len(back.bins) > 1


def test_intervals_hold_the_score_and_shrink_with_more_frames() -> None:
    widths = []
    for frames in (40, 640):
        lines = [[timeline(frames, max_bins=1024)]]
        draws = draw_mean_ious(lines)
        assert draws is not None and draws.shape == (1, DRAWS)
        low, high = interval(draws[0])
        assert low < lines[0][0].total().matrix().mean_iou() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2
    np.testing.assert_array_equal(draws, draw_mean_ious(lines))


def test_pairs_are_compared_on_the_same_blocks() -> None:
    good, twin, bad = (timeline(200, right=right) for right in (0.8, 0.8, 0.7))
    draws = draw_mean_ious([[good], [twin], [bad]])
    assert draws is not None and np.array_equal(draws[0], draws[1])
    scores = [line.total().matrix().mean_iou() for line in (good, twin, bad)]
    same, better, _ = compare(["good", "twin", "bad"], scores, draws)
    assert (same.a, same.b, same.difference, same.interval) == ("good", "twin", 0.0, (0.0, 0.0))
    assert not same.significant and better.significant
    assert better.interval[0] < better.difference < better.interval[1]
    # Paired: the difference is known better than either score.
    width: Any = [np.ptp(interval(sample)) for sample in (draws[0] - draws[2], draws[0])]
    assert width[0] < 1.5 * width[1]


def test_a_model_that_was_interrupted_is_compared_on_the_same_times() -> None:
    """Its bins are narrower: the same number is another time."""
    whole, part = timeline(800), timeline(100)
    assert part.width_ns < whole.width_ns
    joined = Timeline(CLASSES, 64, whole.width_ns)
    for number, counts in part.bins.items():
        joined.add(number * part.width_ns, counts)

    draws, wanted = (draw_mean_ious([[whole], [each]]) for each in (part, joined))

    assert draws is not None and wanted is not None
    np.testing.assert_array_equal(draws, wanted)


def test_no_interval_is_made_of_nearly_nothing() -> None:
    assert draw_mean_ious([[timeline(3)]]) is None
    assert draw_mean_ious([[Timeline(CLASSES, 64)]]) is None


def test_time_is_counted_once_where_bags_are_worked_on_at_once() -> None:
    assert covered_s([[5.0, 6.0], [0.0, 2.0], [1.0, 3.0], [1.5, 1.6]]) == 4.0
    assert covered_s([]) == 0.0


def test_calibration_adds_up_to_that_of_all_pixels_and_survives_json() -> None:
    rng = np.random.default_rng(1)
    whole, counts = Reliability(), Counts(CLASSES)
    assert counts.calibration_error() is None
    for _ in range(3):
        confidence, predicted, truth = (
            rng.integers(0, high, (8, 8)).astype(np.uint8) for high in (256, CLASSES, CLASSES)
        )
        whole.update(confidence, predicted, truth)
        frame, one = Reliability(), Counts(CLASSES)
        frame.update(confidence, predicted, truth)
        one.calibration = frame.sums()
        counts.add(one)
    assert counts.calibration_error() == pytest.approx(whole.error())
    read = Counts.from_plain(json.loads(json.dumps(counts.to_plain())))
    assert read.calibration_error() == counts.calibration_error()
