"""The trained model in a run's folder: the best so far during the training, its score at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import lightning
import numpy as np
import torch
import yaml
from torch import nn

from rt_segmentation.data.dataset import SegmentationDataset
from rt_segmentation.evaluation.dataset import check_labels
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.files import user_path, write_atomically
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest, Score, read_manifest
from rt_segmentation.networks.complexity import count_gmacs, count_parameters
from rt_segmentation.profiles import Answer, Answers, Profile
from rt_segmentation.training.recipe import Recipe
from rt_segmentation.weights import load_weights, save_model

FLOAT16_ABOVE_BYTES = 25_000_000
"""Larger weights are stored as float16 where it can hold them; the score is that of the rounded values."""

LABELS_FILE = "labels.yaml"
"""The user's own label set, copied beside the manifest."""

SCORE_FILE = "score.yaml"
"""The stored model's IoU by class, beside the manifest."""

State = dict[str, torch.Tensor]


class Store(Protocol):
    """Keeps the best weights so far."""

    def write(self, state: State, epoch: int, hours: float) -> None:
        """Replace them by those of an epoch."""


class BestModel(lightning.Callback):
    """Hands over what a validation has measured, if it is the best so far, or always.

    It stands behind the averaging in the list of callbacks, to see the weights that are measured.

    Args:
        metric: of the validation; more is better.
        keep: 'best' or 'last'.
        write: takes the network's state dict and the epoch, from 1.
    """

    def __init__(
        self, metric: str, keep: Literal["best", "last"], write: Callable[[State, int], None]
    ) -> None:
        self._metric, self._keep, self._write = metric, keep, write
        self._best = -1.0
        self._measured: State = {}

    def state_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """From a checkpoint."""
        self._best = state_dict["best"]

    def on_validation_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Copy the weights: when the score is known, averaged ones are no longer in the network."""
        if trainer.is_global_zero:
            network: Any = pl_module.network
            state = network.state_dict()
            self._measured = {key: value.detach().cpu().clone() for key, value in state.items()}

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write them, if they are the best; without any labelled pixel the last ones are."""
        value = float(trainer.callback_metrics[self._metric])
        if self._keep == "last" or not value <= self._best:
            self._best = value
            if trainer.is_global_zero:
                self._write(self._measured, trainer.current_epoch + 1)


class ModelStore:
    """Writes ``FOLDER/NAME.yaml`` and its weights; manifest and weights fit at every moment.

    Args:
        folder: of the run.
        recipe: of the run.
        network: of the recipe.
        origin: goes into the manifest's `training`; 'frames' are those that the recipe trains on.
    """

    def __init__(self, folder: Path, recipe: Recipe, network: nn.Module, origin: dict[str, Any]) -> None:
        self._folder, self._recipe, self._origin = folder, recipe, origin
        self._parameters = count_parameters(network)
        self._gmacs = round(count_gmacs(network, recipe.width, recipe.height), 3)
        label_file = user_path(recipe.label_set)
        own_labels = label_file.suffix in (".yaml", ".yml")
        # Now: the user may change or move the file during the training.
        self._labels = label_file.read_bytes() if own_labels else None

    def write(self, state: State, epoch: int, hours: float) -> None:
        """Replace the model by weights of an epoch, without a score yet."""
        recipe = self._recipe
        label_set = recipe.label_set
        if self._labels is not None:
            write_atomically(self._folder / LABELS_FILE, self._labels)
            label_set = LABELS_FILE
        manifest = ModelManifest(
            path=self._folder / f"{recipe.name}.yaml",
            name=recipe.name,
            network=recipe.network,
            label_set=label_set,
            width=recipe.width,
            height=recipe.height,
            # A name of its own: a kill between the two files leaves the model before.
            weights=f"{recipe.name}.epoch{epoch:04d}.safetensors",
            sha256="",
            parameters=self._parameters,
            gmacs=self._gmacs,
            license=recipe.data_license,
            options=recipe.options,
            mean=recipe.mean,
            std=recipe.std,
            aliases=recipe.aliases,
            training={
                **self._origin,
                "epoch": epoch,
                "frames_seen": epoch * (self._origin["frames"] // recipe.batch_size) * recipe.batch_size,
                "hours": round(hours, 2),
            },
        )
        arrays = {
            key: value.numpy() for key, value in state.items() if not key.endswith("num_batches_tracked")
        }
        self._save(manifest, arrays)

    def finish(self, validation: SegmentationDataset, hours: float) -> ModelManifest:
        """Measure the stored model as `rt_seg evaluate` does, and put score and profile into its manifest.

        The IoU by class goes into `SCORE_FILE`, which is there when all else is.
        """
        recipe = self._recipe
        stored = read_manifest(self._folder / f"{recipe.name}.yaml")
        confusion = ConfusionMatrix(len(validation.label_set.classes), validation.ignored_ids)
        segmenter = Segmenter.build(stored, "torch", "fp32")
        check_labels(segmenter.config.label_set, validation.label_set)
        reader, answers = Answers(confusion.num_classes), list[Answer]()
        for index in range(len(validation)):
            sample = validation[index]
            (result,) = segmenter.infer([Frame.from_rgb(sample.image)], confidence=True)
            answers.append(reader.read(result.labels, result.confidence))
            confusion.update(sample.labels, result.resized().labels)
        fold = recipe.folds.leave_out if recipe.folds is not None else ""
        score = Score(
            "mean_iou",
            str(recipe.validation["dataset"]),
            f"fold {fold}" if fold else str(recipe.validation.get("split", "")),
            round(confusion.mean_iou(), 4),
            recipe.width,
            recipe.height,
        )
        final = replace(
            stored,
            weights=f"{recipe.name}.safetensors",
            scores=(score,),
            profile=Profile.of(answers, f"{score.dataset} {score.split}".strip())
            if len(answers) > 1
            else None,
            training={**stored.training, "hours": round(hours, 2)},
        )
        saved = self._save(final, load_weights(stored))
        names = validation.label_set.names
        ious = {name: round(float(iou), 4) for name, iou in zip(names, confusion.class_iou()) if iou == iou}
        content = {
            "sha256": saved.sha256,
            "split": score.split,
            "frames": len(validation),
            "mean_iou": score.value,
            "class_iou": ious,
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_atomically(self._folder / SCORE_FILE, text.encode())
        return saved

    def _save(self, manifest: ModelManifest, arrays: dict[str, np.ndarray]) -> ModelManifest:
        arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
        if sum(array.nbytes for array in arrays.values()) > FLOAT16_ABOVE_BYTES:
            arrays = {key: _rounded(array) for key, array in arrays.items()}
        saved = save_model(manifest, arrays)
        for path in self._folder.glob(f"{manifest.name}.epoch*.safetensors"):
            if path != saved.weights_path:
                path.unlink()
        return saved


def _rounded(array: np.ndarray) -> np.ndarray:
    """As float16; as it is where that would make a number infinite, as a batch norm's large variance."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(np.isfinite(half), np.isfinite(array)) else array
