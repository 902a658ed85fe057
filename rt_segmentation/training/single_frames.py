"""Batches of one frame, of which batch norm has no variance."""

from __future__ import annotations

import torch

from rt_segmentation.networks import build_network
from rt_segmentation.networks.outputs import multiple_of, outputs_for
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.recipe import Recipe


def refuse_single_frames(recipe: Recipe, num_classes: int, machine: Machine) -> None:
    """Refuse a batch of one frame for a network that normalises a single pixel of it.

    Batch norm has no variance of one value; PyTorch says so at the first step, after the data are read.

    Raises:
        TrainingError: each process has one frame at a time, and the network needs two.
    """
    world = machine.share.world
    # On GPUs the processes' batch norms see the whole batch.
    at_once = recipe.batch_size if machine.gpu else recipe.batch_size // world
    if at_once > 1:
        return
    crop = recipe.augmentation
    with torch.device("meta"):
        network = build_network(recipe.network, num_classes, **recipe.options).train()
        try:
            outputs_for(network, torch.empty(at_once, 3, crop.height, crop.width), multiple_of(network))
        except ValueError as error:
            processes = "" if world == 1 else f" in each of {world} processes"
            raise TrainingError(
                f"recipe '{recipe.name}' trains {recipe.network} on one frame at a time{processes}, and its"
                f" batch norm needs two or more: set batch_size to {2 * world} or more"
                + (", or use fewer processes" if world > 1 else "")
            ) from error
