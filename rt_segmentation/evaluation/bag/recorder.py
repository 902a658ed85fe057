"""What is kept of each frame's outcome: counts, worst frames, masks on disk, and the state to resume from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rt_segmentation.evaluation.bag.frames import BagFrame
from rt_segmentation.evaluation.bag.outcome import Outcome, Segmented
from rt_segmentation.evaluation.bag.shown import Gallery
from rt_segmentation.evaluation.bag.state import BagState, ModelState
from rt_segmentation.evaluation.bag.tally import Counts
from rt_segmentation.evaluation.bag.truth import IdTable
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.labels import LabelSet

MAX_PROBLEMS = 10
"""So many problems of frames are told in sentences; all are counted as drops."""


class Recorder:
    """Adds outcomes to a bag's state.

    Args:
        state: of the bag.
        names: of the models.
        labels: their label set.
        void_ids: as in `Settings`, beside the label set's own.
        number: of the bag.
        out: the output folder.
    """

    def __init__(
        self,
        state: BagState,
        names: Sequence[str],
        labels: LabelSet,
        void_ids: Sequence[int],
        number: int,
        out: Path,
    ) -> None:
        self._state, self._number = state, number
        self._num_classes = len(labels.classes)
        self._ids = IdTable(self._num_classes, labels.void_ids.union(void_ids))
        self._galleries = [
            Gallery(out, f"frames/{name}", labels.palette(), model.shown)
            for name, model in zip(names, state.models)
        ]

    def add(self, outcome: Outcome) -> None:
        """Count an outcome; outcomes of a frame come in the order of the models."""
        model = self._state.models[outcome.model]
        time_ns = outcome.source.message.recorded_ns - self._state.bag["start_ns"]
        counts = Counts(self._num_classes)
        counts.received = 1
        if isinstance(outcome, Segmented):
            self._add_mask(outcome, model, counts, time_ns)
        else:
            counts.dropped[outcome.reason] = 1
            if outcome.problem is not None:
                self._tell(f"frame {outcome.source.index}: {outcome.problem}")
        model.timeline.add(time_ns, counts)

    def _add_mask(self, outcome: Segmented, model: ModelState, counts: Counts, time_ns: int) -> None:
        result = outcome.result
        counts.segmented = 1
        counts.latency.record(outcome.latency_ns)
        counts.inference.record(round(result.inference_ms * 1e6))
        if outcome.age_ns is not None:
            counts.age.record(outcome.age_ns)
        # What is no class is counted in the last place.
        by_id = np.bincount(result.labels.ravel(), minlength=256)
        counts.pixels[:-1] = by_id[: self._num_classes]
        counts.pixels[-1] = by_id[self._num_classes :].sum()
        if result.confidence is not None:
            counts.confidence_sum = int(result.confidence.sum())
            counts.confidence_pixels = result.confidence.size
        if model.previous is not None and model.previous.shape == result.labels.shape:
            counts.same_pixels = int(np.count_nonzero(model.previous == result.labels))
            counts.compared_pixels = result.labels.size
        model.previous = result.labels
        truth = self._truth(outcome.source, result.labels.shape)
        if truth is not None:
            matrix = ConfusionMatrix(self._num_classes)
            # A mask with a void class where there is another one is wrong, and no class's false positive.
            matrix.update(truth, self._ids(result.labels))
            counts.confusion, counts.labelled = matrix.counts, 1
        self._galleries[outcome.model].offer(
            (self._number, outcome.source.index, time_ns / 1e9),
            (counts.mean_iou(), counts.confidence(), counts.consistency()),
            outcome.frame,
            result.labels,
            truth,
        )

    def _truth(self, source: BagFrame, shape: tuple[int, ...]) -> np.ndarray | None:
        if source.problem is not None:
            self._tell(f"labels of frame {source.index}: {source.problem}")
        if source.truth is None:
            return None
        if source.truth.shape != shape:
            wrong, right = (f"{width}x{height}" for height, width in (source.truth.shape, shape))
            self._tell(f"labels of frame {source.index} are {wrong} px, the image is {right} px")
            return None
        return self._ids(source.truth)

    def _tell(self, problem: str) -> None:
        problems = self._state.problems
        if problem not in problems and len(problems) < MAX_PROBLEMS:
            problems.append(problem)
