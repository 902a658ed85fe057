"""Run a recipe: from data to a manifest that the node loads."""

from __future__ import annotations

import logging
import re
import signal
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from rt_segmentation.data.dataset import SegmentationDataset
from rt_segmentation.data.resized import Resized
from rt_segmentation.data.selection import leave_out
from rt_segmentation.data.statistics import ClassCounts, notes
from rt_segmentation.labels import LabelSet, load_label_set
from rt_segmentation.models import ModelManifest
from rt_segmentation.networks import allow_network, is_place
from rt_segmentation.text import counted
from rt_segmentation.training.averaging import averaging
from rt_segmentation.training.checkpoints import Checkpoints
from rt_segmentation.training.data import (
    MEMORY_BYTES,
    Batch,
    Indices,
    ResumableLoader,
    TrainingSet,
    ValidationSet,
    count_classes,
    open_dataset,
    training_loader,
    validation_loader,
)
from rt_segmentation.training.data_record import DataRecord
from rt_segmentation.training.distillation import Teachers, find_teachers
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.history import History
from rt_segmentation.training.initialise import find_start, initialise
from rt_segmentation.training.labelled import check_training, check_validation
from rt_segmentation.training.losses import build_loss
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.module import SegmentationModule
from rt_segmentation.training.on_device.views import Views
from rt_segmentation.training.progress import progress
from rt_segmentation.training.recipe import Recipe, RecipeError
from rt_segmentation.training.run_folder import RunFolder
from rt_segmentation.training.scales import scale_note
from rt_segmentation.training.single_frames import refuse_single_frames
from rt_segmentation.training.store import BestModel, ModelStore, Store
from rt_segmentation.training.threads import ThreadChoice, may_choose
from rt_segmentation.training.timing import (
    MAX_VALIDATIONS,
    Validations,
    measure,
    of_first_process,
    validation_interval,
)

METRIC = "mean_iou"
CHECKPOINT_S = 120.0
LOG_EVERY_STEPS = 10
FEW_VALIDATIONS = 4
"""Of a training whose last weights are kept: its validations choose nothing."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A recipe with its data, ready to run.

    Attributes:
        recipe: what to train, and how.
        machine: what it runs on.
        label_set: the recipe's.
        frames: to train on.
        validation: to measure the model.
        counts: of the classes' pixels in the training frames.
        module: with the network, in its random start.
    """

    recipe: Recipe
    machine: Machine
    label_set: LabelSet
    frames: TrainingSet
    validation: SegmentationDataset
    counts: ClassCounts
    module: SegmentationModule

    @classmethod
    def prepare(cls, recipe: Recipe, data_root: Path | None, machine: Machine) -> Training:
        """Open the data and build the network.

        Raises:
            RecipeError, DatasetError: the recipe or the data are wrong.
            TrainingError: the batch cannot be divided among the processes, is too small to mix or for the
                network's batch norm, or has more frames than there are; no pixel is labelled to train on, or
                to validate on.
        """
        if recipe.batch_size % machine.share.world:
            raise TrainingError(
                f"a batch of {recipe.batch_size} frames cannot be divided among {machine.share.world}"
                " processes; change batch_size in the recipe or the number of processes"
            )
        if is_place(recipe.network):
            # Whoever trains a recipe lets it name code; a model's manifest does not have that right.
            allow_network(recipe.network)
        if recipe.frozen_norms and not recipe.init_from:
            raise RecipeError(
                f"recipe '{recipe.name}' has frozen_norms, which keep what a model has learned; give it"
                " init_from, or --init-from, or leave frozen_norms out"
            )
        label_set = load_label_set(recipe.label_set)
        refuse_single_frames(recipe, len(label_set.classes), machine)
        unknown = [i for i in recipe.mixing.paste_classes if i >= len(label_set.classes)]
        if unknown:
            raise RecipeError(
                f"recipe '{recipe.name}': mixing.paste_classes has {unknown[0]}, and {label_set.name} has the"
                f" classes 0 to {len(label_set.classes) - 1}"
            )
        mixes = recipe.mixing.amplitude or recipe.mixing.paste
        if recipe.augment_on == "device" and mixes and recipe.batch_size == machine.share.world:
            raise TrainingError(
                f"recipe '{recipe.name}' mixes frames of a batch on the device, and each process has one"
                f" at a time; set batch_size to {2 * machine.share.world} or more, or leave mixing out"
            )
        lightning.seed_everything(recipe.seed, verbose=False)
        parts = [open_dataset(description, data_root, label_set) for description in recipe.train]
        validation = open_dataset(recipe.validation, data_root, label_set)
        if recipe.folds is not None and recipe.folds.leave_out:
            pool = pooled_datasets(recipe, parts, validation)
            parts, validation = leave_out(pool, re.compile(recipe.folds.by), recipe.folds.leave_out)
        if recipe.resize_frames:
            parts = [Resized(part, recipe.height) for part in parts]
        memory = MEMORY_BYTES // machine.local_processes
        frames = TrainingSet(parts, recipe.augmentation, recipe.seed, recipe.mixing, memory)
        if len(frames) < recipe.batch_size:
            are = "is" if len(frames) == 1 else "are"
            raise TrainingError(
                f"there {are} {counted(len(frames), 'frame')} to train on, and a batch of recipe"
                f" '{recipe.name}' has {recipe.batch_size}; give the recipe a smaller batch_size"
            )
        of_parts = frames.count_classes(len(label_set.classes), machine.workers)
        counts = ClassCounts(len(label_set.classes))
        for part in of_parts:
            counts.add_counts(part)
        # What is wrong with them is said now, and not after the first epochs.
        measured = count_classes(validation, machine.workers)
        unlabelled = check_training(recipe, of_parts)
        check_validation(recipe, measured, validation.ignored_ids)
        if machine.share.rank == 0:
            scale = scale_note(recipe, frames)
            more = [*unlabelled, *([scale] if scale else [])]
            for name, found, own in (("training", counts, more), ("validation", measured, [])):
                for note in (*own, *notes(found, label_set, validation.ignored_ids)):
                    _log.warning("%s data: %s", name, note)
        module = SegmentationModule(
            recipe,
            label_set.names,
            validation.ignored_ids,
            build_loss(recipe, counts),
            len(frames) // recipe.batch_size,
        )
        if recipe.augment_on == "device":
            samples = [frames.frame(index) for index in range(len(frames))]
            module.views = Views(samples, recipe.augmentation, recipe.mixing, recipe.seed)
        return cls(recipe, machine, label_set, frames, validation, counts, module)

    def learn_from(self, teachers: Sequence[ModelManifest]) -> None:
        """Let the module learn from teachers as well, if there are any."""
        if teachers:
            self.module.teachers = Teachers(teachers, self.recipe.distillation)

    def training_loader(self) -> ResumableLoader:
        """A new loader of this process's training batches."""
        if self.module.views is not None:
            return training_loader(Indices(self.frames), self.recipe, 0, self.machine.share)
        return training_loader(self.frames, self.recipe, self.machine.workers, self.machine.share)

    def validation_loader(self) -> DataLoader[Batch]:
        """A new loader of this process's validation frames."""
        frames = ValidationSet(self.validation, self.recipe.height)
        return validation_loader(frames, self.machine.workers, self.machine.share)


def pooled_datasets(
    recipe: Recipe, training: Sequence[SegmentationDataset], validation: SegmentationDataset
) -> list[SegmentationDataset]:
    """The data sets whose frames the recipe's folds group."""
    joined = recipe.folds is not None and recipe.folds.join_validation
    return [*training, *([validation] if joined else [])]


def train(
    recipe: Recipe,
    data_root: Path | None,
    out: Path,
    machine: Machine,
    *,
    max_hours: float | None = None,
    compiled: bool = False,
    checkpoint_s: float = CHECKPOINT_S,
    starts: Path | None = None,
) -> ModelManifest | None:
    """Train, and measure the stored model; all that is written lies in ``OUT/NAME/``, see docs/training.md.

    A killed training resumes from its last checkpoint there, to the same result. One that has ended is left
    as it is, which is said.

    Args:
        recipe: what to train, on what, and how.
        data_root: folder of the recipe's data sets.
        out: where the run's folder goes.
        machine: what to train on; with several processes each calls this.
        max_hours: fewer epochs are trained, if the recipe's would take longer.
        compiled: let torch.compile make the steps faster; it takes minutes at the start.
        checkpoint_s: time between two checkpoints within an epoch.
        starts: where the runs of models are that the recipe starts or learns from; `out` by default.

    Returns:
        The model as stored; None in all processes but the first.

    Raises:
        RecipeError, DatasetError, ModelError: the recipe, the data or the start are wrong.
        TrainingError: the folder has another run, one of other data or teachers, or one that is at work; the
            time is too short, or the loss became NaN.
    """
    started = time.monotonic()
    quieten_lightning()
    first = machine.share.rank == 0
    runs = starts or out
    folder = RunFolder(out / recipe.name)
    resumes = folder.checkpoint.is_file()
    if resumes:
        recipe = folder.resumed(recipe, fitted=max_hours is not None)
    else:
        folder.refuse_model(recipe, fitted=max_hours is not None)
    # Once: what is recorded is what the module learns from.
    teachers = find_teachers(recipe, runs)
    data = DataRecord.of(recipe, data_root).taught(teachers)
    if resumes:
        folder.check_data(data)
        ended = folder.ended(recipe.name)
        if ended is not None:
            if first:
                folder.say_ended()
            return ended[0] if first else None
    training = Training.prepare(recipe, data_root, machine)
    module = training.module
    training.learn_from(teachers)
    if recipe.init_from and not resumes:
        start = find_start(recipe.init_from, runs / Path(recipe.init_from).name)
        said = initialise(module.network, recipe, start)
        if first:
            print(said)
    if compiled:
        module.network.compile()
    if max_hours is not None and not resumes:
        loaders = training.training_loader(), training.validation_loader()
        timing = measure(machine, module, *loaders, compiled=compiled)
        left_s = max_hours * 3600 - of_first_process(time.monotonic() - started)
        most = most_validations(recipe)
        epochs = timing.epochs_within(left_s, recipe.epochs, most)
        recipe = module.recipe = recipe.fitted(epochs)
        if first:
            takes = timedelta(seconds=round(timing.training_s(epochs, most)))
            print(f"{epochs} epochs take about {takes}")
    with folder.begun(recipe, data, machine) if first else nullcontext():
        origin = _origin(recipe, machine, len(training.frames), teachers)
        store = ModelStore(folder.path, recipe, module.network, origin)
        loaders = training.training_loader(), training.validation_loader()
        history = fit(module, recipe, machine, folder, loaders, METRIC, store, checkpoint_s, compiled)
        return store.finish(training.validation, history.seconds / 3600) if first else None


def fit(
    module: lightning.LightningModule,
    recipe: Recipe,
    machine: Machine,
    folder: RunFolder,
    loaders: tuple[ResumableLoader, DataLoader[Any]],
    metric: str,
    store: Store,
    checkpoint_s: float = CHECKPOINT_S,
    compiled: bool = False,
) -> History:
    """Train a module to the last epoch, from the folder's checkpoint if there is one.

    Args:
        module: logs `loss` and the metric.
        recipe: says how many epochs, and whether weights are averaged.
        machine: what to train on.
        folder: of the run.
        loaders: of training and validation.
        metric: of the validation, by which the best epoch is chosen.
        store: takes the best epoch's weights.
        checkpoint_s: time between two checkpoints within an epoch.
        compiled: whether the module's network is.

    Raises:
        KeyboardInterrupt: it was stopped by Ctrl-C.
        SystemExit: it was stopped by SIGTERM; with the status that a shell gives that, 143.
    """
    history = History(folder.path, metric)
    best = BestModel(
        metric, recipe.keep, lambda state, epoch: store.write(state, epoch, history.seconds / 3600)
    )
    averages = averaging(recipe, recipe.epochs * len(loaders[0]))
    bar = progress(metric)
    trainer = machine.trainer(
        max_epochs=recipe.epochs,
        log_every_n_steps=min(LOG_EVERY_STEPS, len(loaders[0])),
        logger=TensorBoardLogger(folder.path, name="", version="tensorboard"),
        enable_checkpointing=False,
        enable_progress_bar=isinstance(bar, ProgressBar),
        # Checkpoints come last: they have what the others know after a step or an epoch.
        callbacks=[
            Validations(validation_interval(recipe.epochs, most_validations(recipe))),
            ThreadChoice(may_choose(machine, compiled)),
            *averages,
            best,
            history,
            bar,
            Checkpoints(folder.checkpoint, checkpoint_s),
        ],
    )
    resumed = str(folder.checkpoint) if folder.checkpoint.is_file() else None
    try:
        trainer.fit(module, *loaders, ckpt_path=resumed)
    except SystemExit as ended:
        # Lightning's ways: SIGTERM is success, and Ctrl-C a failure of which nothing is said.
        if machine.share.rank == 0:
            _log.warning("the training was stopped; the same command resumes it")
        # Who is asked by SIGTERM to end is not interrupted, whichever exception came first.
        if trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM) from ended
        raise KeyboardInterrupt from ended
    return history


def quieten_lightning() -> None:
    """Keep Lightning from telling what this package has decided itself."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers",
        ".*have no `val_dataloader`",
        ".*in eval mode at the start of training",
        ".*sync_dist=True.* when logging on epoch level",
        ".*`isinstance\\(treespec, LeafSpec\\)`",
    ):
        warnings.filterwarnings("ignore", message)


def most_validations(recipe: Recipe) -> int:
    """How many validations a training has, at most."""
    return FEW_VALIDATIONS if recipe.keep == "last" else MAX_VALIDATIONS


def _origin(
    recipe: Recipe, machine: Machine, frames: int, teachers: Sequence[ModelManifest]
) -> dict[str, Any]:
    folds, names = recipe.folds, recipe.distillation.teachers
    left_out = {"by": folds.by, "leave_out": folds.leave_out} if folds and folds.leave_out else None
    return {
        "recipe": recipe.name,
        **({"init_from": recipe.init_from} if recipe.init_from else {}),
        "train": [dict(part) for part in recipe.train],
        **({"folds": left_out} if left_out else {}),
        "frames": frames,
        **({"teachers": {n: t.sha256 for n, t in zip(names, teachers)}} if teachers else {}),
        "commit": machine.describe()["commit"],
        "epochs": recipe.epochs,
        "machine": machine.name(),
    }
