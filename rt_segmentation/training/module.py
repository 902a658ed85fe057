"""The Lightning module: a network, its loss and its validation."""

from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.networks import NetworkError, build_network
from rt_segmentation.networks.outputs import (
    Outputs,
    auxiliary_logits,
    logits_for,
    main_logits,
    multiple_of,
    outputs_for,
)
from rt_segmentation.training.data import Batch
from rt_segmentation.training.distillation import Teachers
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.initialise import class_axes
from rt_segmentation.training.losses import SegmentationLoss
from rt_segmentation.training.on_cpu import suit_cpu
from rt_segmentation.training.on_device.recorded import RecordedPasses
from rt_segmentation.training.on_device.views import Views
from rt_segmentation.training.optimizers import configure
from rt_segmentation.training.recipe import Recipe

LOOK_EVERY_STEPS = 10
"""At the loss of recorded passes, whether it is a number."""


class SegmentationModule(lightning.LightningModule):
    """Trains a network as a recipe says.

    Args:
        recipe: names the network, and how it is trained.
        class_names: of the labels.
        ignored_ids: classes that the validation leaves out.
        loss: of the recipe.
        epoch_steps: steps of an epoch.

    Attributes:
        teachers: whose soft labels it learns as well, if any.
        views: makes the training's batches of frames' indices, where the recipe augments on the device.
    """

    mean: torch.Tensor
    std: torch.Tensor
    # A process may have no frame to validate.
    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        recipe: Recipe,
        class_names: tuple[str, ...],
        ignored_ids: frozenset[int],
        loss: SegmentationLoss,
        epoch_steps: int,
    ) -> None:
        super().__init__()
        self._epoch_steps = epoch_steps
        self.teachers: Teachers | None = None
        self.views: Views | None = None
        self._passes: RecordedPasses | None = None
        self._inputs: tuple[torch.Tensor, ...] = ()
        self.recipe, self.class_names, self.loss = recipe, class_names, loss
        self.network: nn.Module = build_network(recipe.network, len(class_names), **recipe.options)
        # torch's stubs lack the one-argument form.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        suit_cpu(self.network)
        self.register_buffer("mean", torch.tensor(recipe.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(recipe.std).view(1, 3, 1, 1))
        self._confusion = ConfusionMatrix(len(class_names), ignored_ids)
        # By name: where processes normalise together, Lightning puts other modules in their places.
        self._frozen = _norms_without_classes(recipe, self.network, len(class_names))
        # Lightning begins with the modes as they are.
        self.train()

    def train(self, mode: bool = True) -> SegmentationModule:
        """Switch to training or validation; frozen norms stay as in validation."""
        super().train(mode)
        for name in self._frozen:
            self.network.get_submodule(name).eval()
        return self

    def forward(self, images: torch.Tensor) -> Outputs:
        """uint8 images (N, 3, H, W) to logits (N, classes, H, W); in training maybe a dictionary of them."""
        normalised = (images.float() / 255 - self.mean) / self.std
        normalised = normalised.contiguous(memory_format=torch.channels_last)
        if self.training:
            return outputs_for(self.network, normalised, multiple_of(self.network))
        # A compiled network is compiled for the training batches' shape alone.
        return logits_for(self.network.forward, normalised, multiple_of(self.network))

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        """Make dropout a function of seed, step and process: a resumed training draws the same."""
        self._seed_step()

    def _seed_step(self) -> None:
        seed_everything_for_step(self.recipe.seed, self.global_step, self.global_rank)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; frames' indices stay, and are moved with what is drawn for them."""
        if self.training and self.views is not None:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        """Loss of a batch, or of the frames' indices that `views` makes one of.

        Raises:
            TrainingError: the loss is not a finite number.
            NetworkError: the network gives no logits, or of another number of classes.
        """
        if self.views is None:
            images, labels, indices = batch
            loss = self.loss_of(images, labels)
        else:
            (indices,) = batch
            loss = self._loss_on_device(self.views, indices)
        # To look at the loss is to wait for the device, which is to have the next passes ready by then.
        looks = self._passes is None or self.global_step % LOOK_EVERY_STEPS == 0
        if looks and not torch.isfinite(loss):
            loader: Any = self.trainer.train_dataloader
            names = ", ".join(loader.dataset.frame(index).name for index in indices.tolist())
            since = "" if self._passes is None else f", or since one of the {LOOK_EVERY_STEPS - 1} before it"
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch + 1}), with"
                f" the frames {names}{since}; look at these frames, or lower the recipe's learning_rate"
            )
        self.log("loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def loss_of(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of a batch, a scalar.

        Args:
            images: uint8 (N, 3, H, W).
            labels: int64 (N, H, W).

        Raises:
            NetworkError: the network gives no logits, or of another number of classes.
        """
        outputs = self(images)
        logits = main_logits(outputs, images)
        for given in (logits, *auxiliary_logits(outputs)):
            if given.shape[1] != len(self.class_names):
                raise NetworkError(
                    f"network '{self.recipe.network}' gives logits of {given.shape[1]} classes, where"
                    f" {len(self.class_names)} are asked for; its first argument is their number"
                )
        loss: torch.Tensor = self.loss(logits, labels)
        for auxiliary in auxiliary_logits(outputs):
            auxiliary = F.interpolate(auxiliary, labels.shape[1:], mode="bilinear")
            loss = loss + self.recipe.loss.auxiliary * self.loss(auxiliary, labels)
        if self.trainer.world_size > 1:
            loss = loss * self._weight_of_process(labels)
        if self.teachers is not None:
            # Of all pixels, of which each process has as many.
            loss = loss + self.teachers.loss(images, logits)
        return loss

    def _loss_on_device(self, views: Views, indices: torch.Tensor) -> torch.Tensor:
        views.to(self.device)
        drawn = views.draw(indices, self.global_step, self.global_rank)
        if self._passes is None:
            inputs = indices.to(self.device), drawn.to(self.device)
            if not self._records():
                return self.loss_of(*views.make(*inputs))
            # Recorded passes read the same memory at each step.
            self._inputs = inputs
            self._passes = RecordedPasses(
                lambda: self.loss_of(*views.make(*inputs)),
                list(self.network.parameters()),
                list(self.network.buffers()),
                torch.bfloat16 if self.trainer.precision == "bf16-mixed" else None,
            )
            # The passes before the recording have drawn numbers: a training that resumes with this step would
            # go on otherwise than one that came to it.
            self._seed_step()
        for kept, value in zip(self._inputs, (indices, drawn)):
            kept.copy_(value.pin_memory(), non_blocking=True)
        return self._passes()

    def _records(self) -> bool:
        """Whether the passes may be recorded: by one process, and without the scaled loss of fp16."""
        one = self.device.type == "cuda" and self.trainer.world_size == 1
        return one and self.trainer.precision != "16-mixed" and self.recipe.loss.ohem == 1

    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients, unless recorded passes have done so."""
        if self._passes is None:
            super().backward(loss, *args, **kwargs)

    def on_validation_model_zero_grad(self) -> None:
        """Free the gradients' memory, unless recorded passes write there: an optimiser skips what is None."""
        if self._passes is None:
            super().on_validation_model_zero_grad()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Forget the gradients, unless recorded passes replace them."""
        if self._passes is None:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def _weight_of_process(self, labels: torch.Tensor) -> torch.Tensor:
        """What its labels weigh beside the mean over processes, so that together they are one large batch."""
        own = self.loss.weights[labels[labels != IGNORE_ID]].sum()
        total = own.clone()
        torch.distributed.all_reduce(total)
        return own * self.trainer.world_size / total.clamp(min=torch.finfo(total.dtype).tiny)

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation; batch norm's averages are those of the first process."""
        self._confusion.counts[:] = 0
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Count a frame's pixels, at the labels' size."""
        images, labels, _ = batch
        predicted = self(images).argmax(1, keepdim=True).to(torch.uint8)
        if predicted.shape[2:] != labels.shape[1:]:
            predicted = F.interpolate(predicted, labels.shape[1:], mode="nearest-exact")
        self._confusion.update(labels.to(torch.uint8).cpu().numpy(), predicted.squeeze(1).cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Log the IoU of the classes that occur, and their mean, over all processes' frames."""
        counts = torch.from_numpy(self._confusion.counts).to(self.device)
        self._confusion.counts = self.trainer.strategy.reduce(counts, reduce_op="sum").cpu().numpy()
        self.log("mean_iou", self._confusion.mean_iou(), prog_bar=True)
        scores = zip(self.class_names, self._confusion.class_iou().tolist())
        self.log_dict({f"iou/{name}": iou for name, iou in scores if not np.isnan(iou)})

    def configure_optimizers(self) -> Any:
        """The recipe's."""
        # Lightning's own count would set up the loader too early for it to resume from a checkpoint.
        return configure(self.recipe, self.network, self.recipe.epochs * self._epoch_steps)


def _norms_without_classes(recipe: Recipe, network: nn.Module, num_classes: int) -> list[str]:
    """Names of the batch norms that a recipe freezes: whose statistics are of features, not of classes."""
    if not recipe.frozen_norms:
        return []
    of_classes = class_axes(recipe.network, num_classes, recipe.options)
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{name}.running_mean" not in of_classes
    ]


def seed_everything_for_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's random numbers, on all devices, for a step of one process."""
    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]))
