"""What is to be done with a bag, and the models that do it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.splits import find_splits
from rt_segmentation.evaluation.bag.clouds import TOLERANCE_S
from rt_segmentation.evaluation.bag.ids import IdTable, TruthClasses, truth_by_name
from rt_segmentation.evaluation.bag.state import BagState, Ran
from rt_segmentation.evaluation.bag.throughput import engine_rate
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.groups import grouping
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.imaging.levels import AUTO
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.labels import LabelSet, load_label_set
from rt_segmentation.models import ModelManifest, find_model
from rt_segmentation.text import printable

THROUGHPUT, REALTIME = "throughput", "realtime"


@dataclass(frozen=True)
class Settings:
    """What is the same for all bags of an evaluation.

    Attributes:
        models: names, or paths of manifests.
        engine, precision: as for `build_engine`.
        image_topic: of the images; None for the only one there is.
        label_topic, labels: ground truth as a topic, or as a folder of PNGs named by stamp.
        void_ids: ids of the ground truth that are unlabelled, besides those of no class.
        mode: 'throughput' or 'realtime'.
        rate: speed of the bag's clock in real time.
        parallel_frames: frames segmented concurrently in real time, as the node's parameter; throughput mode
            takes as many as there are cores.
        out: folder for all that is written.
        write_bag, video: whether to write masks as a bag, overlays as an mp4.
        max_bins: bins of time kept of each bag.
        image_bits: how many bits 16-bit images use, or 'auto': then each bag's first images decide.
        roi: the part of the images that the models see, and are measured on; None for all.
        rotation: degrees clockwise by which the images are turned upright for the models.
        groups: of the models' classes, in which they are measured; '' for the classes themselves.
        truth_classes: name or path of the ground truth's label set; '' for the first model's. Without groups
            its classes are found by their names.
        cloud_topic: of depth images or clouds, whose labelled clouds are written beside the masks, or None.
        camera_info_topic: of the images' calibration, for these; None finds it.
        cloud_tolerance_s: how far the stamps of an image and its cloud may be apart [s].
    """

    models: tuple[str, ...]
    out: Path
    engine: str = "auto"
    precision: str = "auto"
    image_topic: str | None = None
    label_topic: str | None = None
    labels: Path | None = None
    void_ids: tuple[int, ...] = ()
    mode: str = THROUGHPUT
    rate: float = 1.0
    parallel_frames: int = 1
    write_bag: bool = False
    video: bool = False
    max_bins: int = 256
    image_bits: str = AUTO
    roi: Region | None = None
    rotation: int = 0
    groups: str = ""
    truth_classes: str = ""
    cloud_topic: str | None = None
    camera_info_topic: str | None = None
    cloud_tolerance_s: float = TOLERANCE_S


@dataclass(frozen=True)
class Job:
    """One bag; `resume` continues a killed evaluation."""

    settings: Settings
    index: int
    path: Path
    resume: bool = False

    @property
    def stem(self) -> str:
        """Begins the names of what is written about this bag."""
        # A bag's name need not be UTF-8; those of pictures and videos are in pages.
        return f"{self.index:04}_{printable(self.path.stem)}".replace("\\", "_")

    @property
    def state_path(self) -> Path:
        """Where the bag's state is kept."""
        return self.settings.out / "state" / f"{self.index:04}.json"

    def save(self, state: BagState) -> str:
        """Keep the bag's state; returns why it could not be written, in a sentence, or ''."""
        try:
            state.save(self.state_path, self.asked())
        except OSError as error:
            return f"the state could not be written, --resume does not know all that was done: {error}"
        return ""

    def asked(self) -> dict[str, Any]:
        """What a state must have been asked for to be continued, as JSON's types."""
        asked = {key: value for key, value in vars(self.settings).items() if key != "out"}
        asked.update(models=list(self.settings.models), void_ids=list(self.settings.void_ids))
        asked.update(roi=None if self.settings.roi is None else list(self.settings.roi))
        asked.update(labels=None if self.settings.labels is None else str(self.settings.labels))
        return {"path": str(self.path), **asked, **self._contents}

    @cached_property
    def _contents(self) -> dict[str, Any]:
        """What names do not tell: models that were trained on and bags that were recorded anew keep theirs.

        As of when this is first asked for.
        """
        settings = self.settings
        manifests = [find_model(name) for name in settings.models]
        truth = truth_labels(manifests[0], settings.groups, settings.truth_classes)
        meant = [output_labels(manifest, settings.groups) for manifest in manifests]
        becomes = None if truth.becomes is None else truth.becomes.lookup.tolist()
        classes = repr((meant, truth.label_set, becomes)).encode()
        # A bag that was evaluated need not be kept.
        size = _bytes(self.path)
        return {
            "models' contents": [hashlib.sha256(m.path.read_bytes()).hexdigest()[:16] for m in manifests],
            "classes' contents": hashlib.sha256(classes).hexdigest()[:16],
            **({} if size is None else {"bag's bytes": size}),
        }


def _bytes(bag: Path) -> int | None:
    """The size of a bag's files; None of one that cannot be read, or is there no more."""
    try:
        files = find_splits(bag).files
        return sum(file.stat().st_size for file in files if file.is_file())
    except (BagError, OSError):
        return None


def find_models(names: Sequence[str], groups: str = "") -> list[ModelManifest]:
    """Models that can be evaluated together, by names or paths of manifests.

    Raises:
        ModelError: there is no such model.
        GroupsError: the groups are not of a model's classes.
        EvaluationError: two have the same name, or different classes, or groups, if these are given.
    """
    manifests = [find_model(name) for name in names]
    found = [manifest.name for manifest in manifests]
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice is not None:
        raise EvaluationError(f"model '{twice}' is given twice; each model can be given once")
    for manifest in manifests[1:]:
        if output_labels(manifest, groups).names != output_labels(manifests[0], groups).names:
            raise EvaluationError(
                f"models {found[0]} ({manifests[0].label_set}) and {manifest.name}"
                f" ({manifest.label_set}) have different classes; evaluate them one by one"
            )
    return manifests


def output_labels(manifest: ModelManifest, groups: str) -> LabelSet:
    """What the ids of a model's masks mean: its classes, or groups of them.

    Raises:
        GroupsError: the groups are not of its classes.
    """
    labels = manifest.labels()
    grouped = grouping(groups, labels)
    return labels if grouped is None else grouped.label_set


def truth_labels(first: ModelManifest, groups: str, truth_classes: str) -> TruthClasses:
    """What the ids of the ground truth mean, and the groups or the model's classes that they become.

    Args:
        first: of the models.
        groups: as in `Settings`.
        truth_classes: as in `Settings`.

    Raises:
        LabelSetError: there is no such label set.
        GroupsError: the groups are not of its classes.
        EvaluationError: no class is the model's by its name, and nothing groups them.
    """
    truth = load_label_set(truth_classes) if truth_classes else first.labels()
    grouped = grouping(groups, truth)
    return truth_by_name(truth, first.labels()) if grouped is None else TruthClasses(truth, grouped)


class Models:
    """Models that are loaded once and run on many bags.

    Args:
        names: of models, or paths of manifests.
        engine, precision: as for `build_engine`.
        parallel: frames that are segmented concurrently.
        roi, rotation: as in `SegmenterConfig`.
        groups, truth_classes: as in `Settings`.

    Attributes:
        lanes: the segmenters of all models, once for each of these frames.
        labels: what the ids of all masks mean: classes, or groups of them.

    Raises:
        ModelError, EngineError: a model cannot be run.
        LabelSetError: there is no such label set of the ground truth.
        GroupsError: the groups are not of the classes of a model, or of the ground truth.
        EvaluationError: as `find_models`.
    """

    def __init__(
        self,
        names: Sequence[str],
        engine: str,
        precision: str,
        parallel: int = 1,
        roi: Region | None = None,
        rotation: int = 0,
        groups: str = "",
        truth_classes: str = "",
    ) -> None:
        manifests = find_models(names, groups)
        self.names = [manifest.name for manifest in manifests]
        self.labels: LabelSet = output_labels(manifests[0], groups)
        self._truth = truth_labels(manifests[0], groups, truth_classes)
        built = [Segmenter.build(manifest, engine, precision, parallel=parallel) for manifest in manifests]
        for segmenter in built:
            config = segmenter.config
            grouped = grouping(groups, config.label_set)
            segmenter.config = replace(config, roi=roi, rotation=rotation, groups=grouped)
        self.lanes = [built, *([s.sharing() for s in built] for _ in range(1, parallel))]
        self._engines: dict[tuple[int, tuple[int, int], bool], Ran] = {}

    def id_tables(self, void_ids: Collection[int]) -> tuple[IdTable, IdTable]:
        """What ids of the ground truth, and of masks, are in the evaluation.

        Args:
            void_ids: of the ground truth that are unlabelled, besides the label set's own.
        """
        # Masks have the ground truth's ids only where both are the models' classes.
        own = self.labels.void_ids.union(
            self._truth.unscored, void_ids if self._truth.becomes is None else ()
        )
        return self._truth.id_table(void_ids), IdTable(len(self.labels.classes), own)

    def refusal(self, frame: Frame) -> str:
        """Why frames of this size cannot be segmented, or ''."""
        try:
            self.lanes[0][0].config.network_size(frame)
        except ImageError as error:
            return str(error)
        return ""

    def prepare(self, model: int, frame: Frame, confidence: bool) -> Ran:
        """Compile a model's engine for frames of this size and time it, once.

        Returns:
            What runs.
        """
        segmenters = [lane[model] for lane in self.lanes]
        config = segmenters[0].config
        key = (model, config.network_size(frame), confidence)
        if key not in self._engines:
            fps = engine_rate(segmenters, frame, confidence)
            engine = config.engine
            self._engines[key] = Ran(engine.name, engine.precision, engine.device, key[1], fps)
        return self._engines[key]
