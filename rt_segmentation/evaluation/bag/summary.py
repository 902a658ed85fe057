"""The result of an evaluation, made of the states of its bags."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone

from rt_segmentation.evaluation.bag.compare import compare, draw_mean_ious
from rt_segmentation.evaluation.bag.durations import Durations, covered_s
from rt_segmentation.evaluation.bag.job import REALTIME, Settings, truth_labels
from rt_segmentation.evaluation.bag.result import (
    Accuracy,
    BagResult,
    ClassColor,
    Comparison,
    Evaluation,
    Histogram,
    Latency,
    ModelResult,
    ShownFrame,
    TimelineBin,
)
from rt_segmentation.evaluation.bag.shown import Shown, worst
from rt_segmentation.evaluation.bag.state import BagState, ModelState
from rt_segmentation.evaluation.bag.tally import Counts
from rt_segmentation.evaluation.bootstrap import interval
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import find_model
from rt_segmentation.provenance import environment

MAX_TIMELINE = 400
UNUSED_TRUTH = (
    "ground truth was asked for, and no frame could be compared with it:"
    " none has usable labels with a labelled pixel"
)


def make_result(settings: Settings, labels: LabelSet, states: Sequence[BagState], command: str) -> Evaluation:
    """Everything that is known, from the states of the bags in the order they were given.

    Args:
        settings: of the evaluation.
        labels: the label set of the models.
        states: of all bags.
        command: that asked for it.
    """
    names = [find_model(model).name for model in settings.models]
    draws = draw_mean_ious([[s.models[i].timeline for s in states] for i in range(len(names))])
    intervals = [None if draws is None else interval(draws[i]) for i in range(len(names))]
    models = [_model(i, settings, labels, states, intervals[i]) for i in range(len(names))]
    accuracies = [model.accuracy for model in models if model.accuracy is not None]
    scores = [accuracy.mean_iou for accuracy in accuracies if accuracy.mean_iou is not None]
    comparisons: list[Comparison] = []
    if draws is not None and len(scores) == len(models):
        comparisons = compare(names, scores, draws)
    partial = not all(state.complete or state.bag.problem for state in states)
    truth = truth_labels(find_model(settings.models[0]), settings.groups, settings.truth_classes)
    known_ids = len(truth.label_set.classes)
    problems = [
        problem for state in states for problem in _problems(state, known_ids, settings.truth_classes)
    ]
    asked = settings.label_topic is not None or settings.labels is not None
    lacks_truth = asked and not partial and not accuracies
    known = environment()
    machine = asdict(known.machine)
    python = {"python": machine.pop("python")}
    return Evaluation(
        partial=partial,
        problems=(*problems, *([UNUSED_TRUTH] if lacks_truth else [])),
        notes=(
            *(_of_bag(state, note) for state in states for note in state.notes),
            *(truth.notes if asked else ()),
        ),
        lacks_truth=lacks_truth,
        unwritten=sum(len(state.unwritten) for state in states),
        mode=settings.mode,
        rate=settings.rate,
        parallel_frames=settings.parallel_frames if settings.mode == REALTIME else None,
        command=command,
        commit=known.commit,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        machine=machine,
        versions={**known.versions, **python},
        bags=tuple(
            BagResult(
                **asdict(state.bag), frames=state.next_index, frames_span_s=state.played.span_ns() / 1e9
            )
            for state in states
        ),
        classes=tuple(ClassColor(c.name, c.color) for c in labels.classes),
        models=tuple(models),
        comparisons=tuple(comparisons),
    )


def _problems(state: BagState, known_ids: int, truth_classes: str) -> list[str]:
    unknown = state.unknown_ids.sentence(known_ids, truth_classes)
    found = (state.bag.problem, *state.sentences(), unknown)
    return [_of_bag(state, text) for text in found if text]


def _of_bag(state: BagState, text: str) -> str:
    path = state.bag.path
    return text if path in text else f"{path}: {text}"


def _model(
    number: int,
    settings: Settings,
    labels: LabelSet,
    states: Sequence[BagState],
    bounds: tuple[float, float] | None,
) -> ModelResult:
    manifest = find_model(settings.models[number])
    own = [state.models[number] for state in states]
    total = Counts(len(labels.classes))
    for state in own:
        total.add(state.timeline.total())
    runs = [state.ran for state in own if state.ran is not None]
    ran = runs[0] if runs else None
    dropped = total.received - total.segmented
    histogram = total.latency.histogram()
    return ModelResult(
        name=manifest.name,
        network=manifest.architecture,
        engine=None if ran is None else ran.engine,
        precision=None if ran is None else ran.precision,
        device=None if ran is None else ran.device,
        input_size=None if ran is None else ran.input_size,
        received=total.received,
        segmented=total.segmented,
        dropped=dict(total.dropped),
        drop_rate=dropped / total.received if total.received else None,
        fps=_fps(number, settings, states),
        engine_fps=statistics.median(run.engine_fps for run in runs) if runs else None,
        latency_ms=_latency(total.latency),
        inference_ms=_latency(total.inference),
        age_ms=_latency(total.age),
        latency_histogram=Histogram(tuple(histogram["edges_ms"]), tuple(histogram["counts"])),
        accuracy=_accuracy(total, labels, bounds),
        class_shares=dict(zip(labels.names, total.shares())),
        mean_confidence=total.confidence(),
        temporal_consistency=total.consistency(),
        timeline=tuple(_timeline(states, own)),
        shown=tuple(ShownFrame(**shown.to_plain()) for shown in all_shown(own)),
    )


def _latency(durations: Durations) -> Latency | None:
    summary = durations.summary()
    return None if summary is None else Latency(**summary)


def all_shown(states: Sequence[ModelState]) -> list[Shown]:
    """The worst frames of a model on all bags."""
    return worst([shown for state in states for shown in state.shown])


def _accuracy(total: Counts, labels: LabelSet, bounds: tuple[float, float] | None) -> Accuracy | None:
    if not total.labelled:
        return None
    matrix = total.matrix()
    return Accuracy(
        frames=total.labelled,
        mean_iou=matrix.mean_iou(),
        interval=bounds,
        class_iou=dict(zip(labels.names, matrix.class_iou().tolist())),
        class_average=matrix.class_average(),
        global_average=matrix.global_average(),
        confusion=tuple(map(tuple, matrix.counts.tolist())),
        calibration_error=total.calibration_error(),
    )


def _fps(number: int, settings: Settings, states: Sequence[BagState]) -> float:
    """Masks per second while any bag was worked on; models that share a pass share its time by their work."""
    totals = [[model.timeline.total() for model in state.models] for state in states]
    work = [sum(bag[i].inference.sum_ns for bag in totals) for i in range(len(settings.models))]
    if settings.mode == REALTIME:
        work = [1] * len(work)  # each has had a pass of its own, as long as the others'
    seconds = covered_s([part for state in states for part in state.intervals])
    seconds *= work[number] / max(sum(work), 1)
    return sum(bag[number].segmented for bag in totals) / seconds if seconds else 0.0


def _timeline(states: Sequence[BagState], own: Sequence[ModelState]) -> list[TimelineBin]:
    """The bags' bins one after the other; neighbours are merged until there are few enough."""
    bins: list[tuple[int, float, float, Counts]] = []
    begin_s = 0.0
    for number, (state, model) in enumerate(zip(states, own)):
        width_s = model.timeline.width_ns / 1e9
        for place, counts in sorted(model.timeline.bins.items()):
            bins.append((number, begin_s + place * width_s, width_s, counts))
        begin_s += state.bag.duration_s
    size = math.ceil(len(bins) / MAX_TIMELINE)
    return [_entry(bins[i : i + size]) for i in range(0, len(bins), size)] if bins else []


def _entry(bins: Sequence[tuple[int, float, float, Counts]]) -> TimelineBin:
    bag, begin_s, _, first = bins[0]
    total = Counts(len(first.confusion))
    for *_, counts in bins:
        total.add(counts)
    latency = _latency(total.latency)
    return TimelineBin(
        bag=bag,
        t_s=begin_s,
        span_s=bins[-1][1] + bins[-1][2] - begin_s,
        received=total.received,
        segmented=total.segmented,
        dropped=total.received - total.segmented,
        latency_p50_ms=latency and latency.p50,
        latency_max_ms=latency and latency.max,
        shares=tuple(total.shares()),
        confidence=total.confidence(),
        consistency=total.consistency(),
        mean_iou=total.mean_iou(),
    )
