"""What a training will see and how long it will take, before it starts."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from rt_segmentation.data.dataset import Sample
from rt_segmentation.imaging.pictures import sheet
from rt_segmentation.imaging.render import colorize, overlay
from rt_segmentation.training.run import Training, quieten_lightning
from rt_segmentation.training.timing import Timing, loading_rate, measure

FRAMES = 8
LIMIT_S = 15.0
"""Of each measurement: an estimate is enough."""


def batch_picture(training: Training) -> np.ndarray:
    """The first batch's frames as the network sees them, at most 8, uint8 (H, W, 3) RGB."""
    palette = training.label_set.palette()
    rows = []
    for sample in _first_batch(training):
        labels = colorize(sample.labels, palette)
        both = overlay(sample.image, sample.labels, palette)
        rows.append([(sample.name, sample.image), ("labels", labels), ("overlay", both)])
    return sheet(rows, training.label_set)


def _first_batch(training: Training) -> list[Sample]:
    keys = list(islice(training.training_loader().sampler, FRAMES))
    views = training.module.views
    if views is None:
        return [training.frames.augmented(epoch, index) for epoch, index in keys]
    indices = torch.tensor([index for _, index in keys])
    images, labels = views.make(indices, views.draw(indices, 0, training.machine.share.rank))
    return [
        Sample(
            image.permute(1, 2, 0).cpu().numpy(),
            of.to(torch.uint8).cpu().numpy(),
            training.frames.frame(i).name,
        )
        for image, of, i in zip(images, labels, indices.tolist())
    ]


def time_steps(training: Training) -> tuple[Timing, float]:
    """Time some steps and validation frames, then the loader alone.

    Returns:
        The timing, and the rate of the loader alone [frames/s].
    """
    quieten_lightning()
    timing = measure(
        training.machine,
        training.module,
        training.training_loader(),
        training.validation_loader(),
        LIMIT_S,
    )
    return timing, loading_rate(training.training_loader(), LIMIT_S)
