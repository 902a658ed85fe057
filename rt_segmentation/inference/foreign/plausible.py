"""The ways in which images are usually normalised, and how a network's labels look with each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from rt_segmentation.inference.foreign.original import Answer, Original, load
from rt_segmentation.models import ModelManifest
from rt_segmentation.weights import read_weights


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes numbers.

    Attributes:
        name: for people.
        mean, std: of images in [0, 1], by channel (R, G, B).
        order: of the channels that the graph takes: 'rgb' or 'bgr'.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str

    def describe(self) -> str:
        """In words."""
        return f"{self.name} {self.order}"


_USUAL = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0 to 1": ((0.0,) * 3, (1.0,) * 3),
    "-1 to 1": ((0.5,) * 3, (0.5,) * 3),
    "0 to 255": ((0.0,) * 3, (1 / 255,) * 3),
    "Cityscapes": ((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115)),
    "Caffe": ((122.675 / 255, 116.669 / 255, 104.008 / 255), (1 / 255,) * 3),
}


def plausible() -> list[Preprocessing]:
    """All of them, each with both orders of channels."""
    return [
        Preprocessing(name, mean, std, order)
        for name, (mean, std) in _USUAL.items()
        for order in ("rgb", "bgr")
    ]


@dataclass(frozen=True)
class Look:
    """What a network makes of images that were normalised in one way.

    Attributes:
        preprocessing: that way.
        labels: of each image, uint8 (H, W).
        confidence: mean probability of the top class; None where the graph gives labels alone.
        smoothness: share of neighbouring pixels that have the same label; noise is far below 1.
    """

    preprocessing: Preprocessing
    labels: tuple[np.ndarray, ...]
    confidence: float | None
    smoothness: float


def looks(manifest: ModelManifest, images: Sequence[np.ndarray]) -> Iterator[Look]:
    """What a model's graph makes of images: first as its manifest says, then in all usual ways.

    Args:
        manifest: of an ONNX graph.
        images: uint8 (H, W, 3) RGB, of sizes that it takes.

    Raises:
        ModelError: the graph is damaged, cannot be run here, or fails.
    """
    interface = manifest.onnx
    assert interface is not None
    run, dtype, _ = load(read_weights(manifest), interface.input)
    own = Preprocessing("manifest", manifest.mean, manifest.std, interface.order)
    if dtype == np.uint8:
        others = [replace(own, name="bytes", order="bgr" if own.order == "rgb" else "rgb")]
    else:
        same = (tuple(np.round(values, 6)) for values in (own.mean, own.std))
        key = (*same, own.order)
        others = [
            p for p in plausible() if (tuple(np.round(p.mean, 6)), tuple(np.round(p.std, 6)), p.order) != key
        ]
    for way in (own, *others):
        original = Original(run, dtype, replace(interface, order=cast(Any, way.order)), way.mean, way.std)
        yield _look(way, [original(image) for image in images])


def _look(way: Preprocessing, answers: Sequence[Answer]) -> Look:
    confidences = [float(a.confidence.mean()) for a in answers if a.confidence is not None]
    return Look(
        way,
        tuple(answer.labels for answer in answers),
        float(np.mean(confidences)) if confidences else None,
        float(np.mean([_smoothness(answer.labels) for answer in answers])),
    )


def _smoothness(labels: np.ndarray) -> float:
    across, down = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
    return float((across.sum() + down.sum()) / (across.size + down.size))
