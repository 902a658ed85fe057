"""What every source of foreign checkpoints tells about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A published training code or library whose checkpoints are imported.

    Attributes:
        name: what messages and manifests call it.
        network: the name in `rt_segmentation.networks.NETWORKS`.
        marks: names of tensors that all of its checkpoints have.
        convert: its tensors to this package's names.
        options: its tensors to the network's options.
        num_classes: its tensors to the number of outputs; None where it has no decoder.
        label_sets: the label set by number of outputs, for the data its authors trained on.
        width, height, mean, std: its authors' input, as in a manifest.
        license: of its weights or data, as its authors state it.
        complete: False if it holds only an encoder.
    """

    name: str
    network: str
    marks: tuple[str, ...]
    convert: Callable[[Tensors], Tensors]
    num_classes: Callable[[Tensors], int] | None
    options: Callable[[Tensors], dict[str, Any]] = lambda tensors: {}
    label_sets: dict[int, str] = field(default_factory=dict)
    width: int = 1024
    height: int = 512
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    license: str = "not stated"
    complete: bool = True
