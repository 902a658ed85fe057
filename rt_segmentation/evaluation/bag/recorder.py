"""What is kept of each frame's outcome: counts, worst frames, masks on disk, and the state to resume from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rt_segmentation.evaluation.bag.clock import Moment
from rt_segmentation.evaluation.bag.frames import BagFrame
from rt_segmentation.evaluation.bag.ids import IdTable
from rt_segmentation.evaluation.bag.outcome import Outcome, Segmented
from rt_segmentation.evaluation.bag.shown import Gallery
from rt_segmentation.evaluation.bag.state import FRAME, BagState, ModelState
from rt_segmentation.evaluation.bag.tally import Counts
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.evaluation.reliability import Reliability
from rt_segmentation.labels import LabelSet

MAX_PROBLEMS = 10
"""Number of kinds of problems that are reported in sentences of their own."""
KEPT_DISTANCES = 101
NUMBERS = re.compile(r"\d+(\.\d+)?")


class Recorder:
    """Adds outcomes to a bag's state.

    Args:
        state: of the bag.
        names: of the models.
        labels: what the ids of their masks mean.
        truth_ids, mask_ids: make these ids of the ground truth's, and of the masks, without void ones.
        number: of the bag.
        out: the output folder.
        moment: what images and labels are paired by.
    """

    def __init__(
        self,
        state: BagState,
        names: Sequence[str],
        labels: LabelSet,
        truth_ids: IdTable,
        mask_ids: IdTable,
        number: int,
        out: Path,
        moment: Moment,
    ) -> None:
        self._state, self._number, self._moment = state, number, moment
        self._num_classes = len(labels.classes)
        self._truth_ids, self._mask_ids = truth_ids, mask_ids
        self._galleries = [
            Gallery(out, f"frames/{name}", labels.palette(), model.shown)
            for name, model in zip(names, state.models)
        ]
        self._lacks_pictures = False

    def add(self, outcome: Outcome) -> None:
        """Count an outcome; outcomes of a frame come in the order of the models."""
        if outcome.model == 0:
            self._count_pair(outcome.source)
        model = self._state.models[outcome.model]
        time_ns = outcome.source.message.recorded_ns - self._state.bag.start_ns
        counts = Counts(self._num_classes)
        counts.received = 1
        if isinstance(outcome, Segmented):
            self._add_mask(outcome, model, counts, time_ns)
        else:
            counts.dropped[outcome.reason] = 1
            if outcome.problem is not None:
                self._tell(outcome.source.index, f"{FRAME}: {outcome.problem}")
        model.timeline.add(time_ns, counts)

    def _add_mask(self, outcome: Segmented, model: ModelState, counts: Counts, time_ns: int) -> None:
        result = outcome.result
        counts.segmented = 1
        counts.latency.record(outcome.latency_ns)
        counts.inference.record(round(result.inference_ms * 1e6))
        if outcome.age_ns is not None:
            counts.age.record(outcome.age_ns)
        # Of the rest of the image nothing is said, and nothing is counted.
        seen = result.placement.region.slices
        labels = result.labels[seen]
        # What is no class is counted in the last place.
        by_id = np.bincount(labels.ravel(), minlength=256)
        counts.pixels[:-1] = by_id[: self._num_classes]
        counts.pixels[-1] = by_id[self._num_classes :].sum()
        if result.confidence is not None:
            counts.confidence_sum = int(result.confidence[seen].sum())
            counts.confidence_pixels = labels.size
        if model.previous is not None and model.previous.shape == labels.shape:
            counts.same_pixels = int(np.count_nonzero(model.previous == labels))
            counts.compared_pixels = labels.size
        model.previous = labels
        truth = self._truth(outcome)
        if truth is not None:
            matrix = ConfusionMatrix(self._num_classes)
            # A mask with a void class where there is another one is wrong, and no class's false positive.
            matrix.update(truth[seen], self._mask_ids(labels))
            counts.confusion, counts.labelled = matrix.counts, int(matrix.labelled)
            # A class's confidence says nothing about groups.
            of_classes = result.answer is None or result.answer.label_set is result.label_set
            if result.confidence is not None and of_classes:
                reliability = Reliability()
                reliability.update(result.confidence[seen], labels, truth[seen])
                counts.calibration = reliability.sums()
        gallery = self._galleries[outcome.model]
        gallery.offer(
            (self._number, outcome.source.index, time_ns / 1e9),
            (counts.mean_iou(), counts.confidence(), counts.consistency()),
            outcome.frame,
            result.labels,
            truth,
        )
        # Told once, whatever the number of pictures and models.
        if gallery.problem and not self._lacks_pictures:
            self._lacks_pictures = True
            self._state.unwritten.append(gallery.problem)

    def _truth(self, outcome: Segmented) -> np.ndarray | None:
        source, shape = outcome.source, outcome.result.labels.shape
        if source.problem is not None:
            self._tell(source.index, f"labels of {FRAME}: {source.problem}")
        if source.truth is None:
            return None
        if source.truth.shape != shape:
            wrong, right = (f"{width}x{height}" for height, width in (source.truth.shape, shape))
            self._tell(source.index, f"labels of {FRAME} are {wrong} px, the image is {right} px")
            return None
        # What is wrong with labels is told once, whatever the number of models.
        if outcome.model == 0:
            seen = outcome.result.placement.region.slices
            self._truth_ids.count_unknown(source.truth[seen], self._state.unknown_ids)
        return self._truth_ids(source.truth)

    def _count_pair(self, source: BagFrame) -> None:
        """Count whether a frame has labels; `BagState` says what for."""
        state, moment_ns = self._state, self._moment(source.message)
        state.paired += source.truth is not None or source.problem is not None
        known = state.moments_ns or [moment_ns, moment_ns]
        state.moments_ns = [min(known[0], moment_ns), max(known[1], moment_ns)]
        if source.apart_ns is not None and len(state.apart_ns) < KEPT_DISTANCES:
            state.apart_ns.append(source.apart_ns)

    def _tell(self, index: int, sentence: str) -> None:
        """Note a problem of a frame; ones that differ in numbers alone are of one kind."""
        problems = self._state.frame_problems
        kind = NUMBERS.sub("#", sentence)
        if kind not in problems and len(problems) >= MAX_PROBLEMS:
            kind, sentence = "", f"{FRAME}: problems of other kinds"
        known = problems.setdefault(kind, [0, index, -1, sentence])
        # What is wrong with a frame is told once, whatever the number of models.
        if index > known[2]:
            known[0], known[2] = known[0] + 1, index
