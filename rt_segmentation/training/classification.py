"""Training of an encoder alone, to tell the classes of whole images; its weights start a segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from rt_segmentation.data.augment import Augmentation
from rt_segmentation.data.class_folders import ClassFolders
from rt_segmentation.data.dataset import DatasetError, Sample
from rt_segmentation.networks import build_network
from rt_segmentation.training.data import (
    EpochSampler,
    ResumableLoader,
    ShareSampler,
    each_once,
    raise_if_any,
    reading_processes,
)
from rt_segmentation.training.data_record import DataRecord, FramesRecord
from rt_segmentation.training.encoders import ENCODERS, encoder_of, write_encoder
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.labelled import names_of
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.module import seed_everything_for_step
from rt_segmentation.training.optimizers import configure
from rt_segmentation.training.recipe import Recipe
from rt_segmentation.training.run import CHECKPOINT_S, fit, quieten_lightning
from rt_segmentation.training.run_folder import RunFolder

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Images uint8 (N, 3, H, W), classes int64 (N,), indices of the images int64 (N,)."""

METRIC = "accuracy"

VALIDATION_SCALE = 256 / 224
"""Shorter side of a validation image over the side of the crop from its middle (He et al., 2015)."""


def train_classifier(
    recipe: Recipe,
    data_root: Path | None,
    out: Path,
    machine: Machine,
    checkpoint_s: float = CHECKPOINT_S,
) -> Path:
    """Train a network's encoder on ``DATA_ROOT/SPLIT/CLASS/`` and write it to ``OUT/NAME/NAME.safetensors``.

    The file has the epoch of the best accuracy, and says how it came about in its metadata. Until the
    training has ended it is called ``NAME.best.safetensors``. A killed training resumes from its last
    checkpoint.

    Args:
        recipe: with the task 'classification'; of its data sets the splits are used.
        data_root: folder of the splits.
        out: where the run's folder goes.
        machine: what to train on; with several processes each calls this.
        checkpoint_s: time between two checkpoints within an epoch.

    Returns:
        The file, which `initialise` takes.

    Raises:
        DatasetError: the folders are not as `ClassFolders` wants them, images cannot be read, or the splits'
            classes differ.
        ModelError: the network has no encoder that could be trained alone.
        TrainingError: the recipe's batch does not fit the images or the processes, or the folder has another
            run.
    """
    if data_root is None:
        raise DatasetError("class folders need the folder that has the splits; give --data-root")
    quieten_lightning()
    lightning.seed_everything(recipe.seed, verbose=False)
    training = ClassFolders(data_root, str(recipe.train[0].get("split", "")))
    validation = ClassFolders(data_root, str(recipe.validation.get("split", "")))
    if training.classes != validation.classes:
        differing = sorted(set(training.classes) ^ set(validation.classes))
        raise DatasetError(f"folder {data_root}: its splits have not the same classes, as '{differing[0]}'")
    if len(training) < recipe.batch_size or recipe.batch_size % machine.share.world:
        raise TrainingError(
            f"a batch of recipe '{recipe.name}' has {recipe.batch_size} images: there must be as many to"
            f" train on, not {len(training)}, and the processes, {machine.share.world}, must divide it"
        )
    module = EncoderClassifier(recipe, len(training.classes), len(training) // recipe.batch_size)
    folder = RunFolder(out / recipe.name)
    path = folder.path / f"{recipe.name}.safetensors"
    first = machine.share.rank == 0
    parts = ((recipe.train[0], training), (recipe.validation, validation))
    train, check = (
        FramesRecord.of(names_of([part]), images.names(), [path for path, _ in images.files])
        for part, images in parts
    )
    data = DataRecord(tuple(f"'{name}'" for name in training.classes), (train,), check)
    if folder.checkpoint.is_file():
        folder.resumed(recipe, fitted=False)
        folder.check_data(data)
        if path.is_file():
            if first:
                folder.say_ended()
            return path
    else:
        folder.refuse_ended([path.name])
        # Later it would be in the middle of an epoch.
        refuse_unreadable([training, validation], machine.workers)
    with folder.begun(recipe, data, machine) if first else nullcontext():
        store = EncoderStore(path.with_suffix(".best.safetensors"), module, machine)
        loaders = _loaders(training, validation, recipe, machine)
        fit(module, recipe, machine, folder, loaders, METRIC, store, checkpoint_s)
        if first and store.path.is_file():
            store.path.replace(path)
    return path


def refuse_unreadable(parts: Sequence[ClassFolders], workers: int) -> None:
    """Read all images once.

    Args:
        parts: the images.
        workers: processes that read.

    Raises:
        DatasetError: some cannot be read; they are named.
    """
    problems = [problem for part in parts for problem in each_once(_Problems(part), workers) if problem]
    raise_if_any(problems)


class _Problems(Dataset[str]):
    """What is wrong with each image, '' if nothing is.

    An exception would come out of a worker's process with its traceback as the message.
    """

    def __init__(self, images: ClassFolders) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> str:
        try:
            self._images[index]
        except DatasetError as error:
            return str(error)
        return ""


class EncoderClassifier(lightning.LightningModule):
    """A network's encoder, the mean over its map, and a linear layer.

    Args:
        recipe: with the task 'classification'.
        classes: how many.
        epoch_steps: steps of an epoch.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, recipe: Recipe, classes: int, epoch_steps: int) -> None:
        super().__init__()
        self.recipe, self.classes, self._epoch_steps = recipe, classes, epoch_steps
        # Its own outputs are of no use here: one is enough.
        self.network = build_network(recipe.network, 1, **recipe.options)
        encoder_of(recipe.network, self.network)
        self.classifier = nn.Linear(ENCODERS[recipe.network].channels, classes)
        self.register_buffer("mean", torch.tensor(recipe.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(recipe.std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, 3, H, W) to logits (N, classes)."""
        encoder = encoder_of(self.recipe.network, self.network)
        features = encoder((images.float() / 255 - self.mean) / self.std)
        logits: torch.Tensor = self.classifier(features.mean((2, 3)))
        return logits

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Make dropout a function of seed, step and process: a resumed training draws the same."""
        seed_everything_for_step(self.recipe.seed, self.global_step, self.global_rank)

    def training_step(self, batch: Batch, batch_index: int) -> torch.Tensor:
        """Cross-entropy of a batch.

        Raises:
            TrainingError: it is not a finite number.
        """
        images, classes, indices = batch
        loss = F.cross_entropy(self(images), classes, label_smoothing=self.recipe.loss.label_smoothing)
        if not torch.isfinite(loss):
            loader: Any = self.trainer.train_dataloader
            names = ", ".join(str(loader.dataset.path(index)) for index in indices.tolist())
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch + 1}), with"
                f" the images {names}; look at these images, or lower the recipe's learning_rate"
            )
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the share of images whose class has the largest logit."""
        images, classes, _ = batch
        right = (self(images).argmax(1) == classes).float().mean()
        self.log(METRIC, right, prog_bar=True, batch_size=len(classes), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """The recipe's."""
        return configure(self.recipe, self, self.recipe.epochs * self._epoch_steps)


class EncoderStore:
    """Writes the encoder of a network's weights, with what they are as the file's metadata."""

    def __init__(self, path: Path, module: EncoderClassifier, machine: Machine) -> None:
        self.path, self._network = path, module.recipe.network
        self._about = {
            "network": self._network,
            "recipe": module.recipe.name,
            "classes": str(module.classes),
            "commit": str(machine.describe()["commit"]),
            "machine": machine.name(),
        }

    def write(self, state: dict[str, torch.Tensor], epoch: int, hours: float) -> None:
        """Replace the file by the weights of an epoch."""
        about = {**self._about, "epoch": str(epoch), "hours": f"{hours:.2f}"}
        write_encoder(self.path, self._network, state, about)


def _loaders(
    training: ClassFolders, validation: ClassFolders, recipe: Recipe, machine: Machine
) -> tuple[ResumableLoader, DataLoader[Any]]:
    share, batch_size = machine.share, recipe.batch_size // machine.share.world
    train = ResumableLoader(
        AugmentedImages(training, recipe.augmentation, recipe.seed),
        batch_size,
        sampler=EpochSampler(len(training), recipe.seed, recipe.batch_size, share),
        **reading_processes(machine.workers),
        persistent_workers=machine.workers > 0,
        pin_memory=machine.gpu,
    )
    check = DataLoader(
        CenteredImages(validation, recipe.width, recipe.height),
        batch_size,
        sampler=ShareSampler(len(validation), share),
        **reading_processes(machine.workers),
        pin_memory=machine.gpu,
    )
    return train, check


class AugmentedImages(Dataset[Any]):
    """Random views of images, by (epoch, index): functions of these and the seed."""

    def __init__(self, images: ClassFolders, augmentation: Augmentation, seed: int) -> None:
        self._images, self._augmentation, self._seed = images, augmentation, seed

    def __len__(self) -> int:
        return len(self._images)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self._images.files[index][0]

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        epoch, index = key
        image, class_index = self._images[index]
        sample = Sample(image, np.zeros(image.shape[:2], np.uint8), "")
        view = self._augmentation(sample, np.random.default_rng((self._seed, epoch, index)))
        return _to_tensor(view.image), class_index, index


class CenteredImages(Dataset[Any]):
    """The middle of images, width x height [px]."""

    def __init__(self, images: ClassFolders, width: int, height: int) -> None:
        self._images, self._width, self._height = images, width, height

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        image, class_index = self._images[index]
        scale = VALIDATION_SCALE * max(self._width / image.shape[1], self._height / image.shape[0])
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        left, top = (image.shape[1] - self._width) // 2, (image.shape[0] - self._height) // 2
        return _to_tensor(image[top : top + self._height, left : left + self._width]), class_index, index


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) to uint8 (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
