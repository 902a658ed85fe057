"""The segmenter: from camera frames to label images at the camera's size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rt_segmentation.imaging.codec import MAX_SIDE_PX, MIN_SIDE_PX
from rt_segmentation.imaging.convert import resize_confidence, resize_labels, to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.render import OPACITY, colorize, overlay
from rt_segmentation.inference.engines import Engine, build_engine
from rt_segmentation.inference.parity import Gate
from rt_segmentation.inference.sizes import Seen, Sizes
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelManifest

SIDE_MULTIPLE = 8
"""The networks' sides: all halve their input at least three times."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a frame shows, and what said so. Compares by identity, as arrays have no single truth value.

    Attributes:
        frame: the camera's image.
        label_set: what the ids of `labels` mean.
        labels: uint8 (H, W), a class id a pixel.
        confidence: top-1 probability x 255, uint8 (H, W), or None if it was not asked for, or the engine that
            computes it is not ready yet.
        rgb: the network's input, uint8 (h, w, 3), valid until the call after the next of the segmenter.
        output_size: (width, height) that labels and confidence are meant to have [px].
        preprocess_ms: demosaicing, resizing and conversion of this frame.
        inference_ms: the engine's time for the whole batch.
    """

    frame: Frame
    label_set: LabelSet
    labels: np.ndarray
    confidence: np.ndarray | None
    rgb: np.ndarray
    output_size: tuple[int, int]
    preprocess_ms: float
    inference_ms: float

    def resized(
        self, out: np.ndarray | None = None, confidence_out: np.ndarray | None = None
    ) -> Segmentation:
        """The same with labels and confidence at `output_size`, written into the arrays that are given."""
        labels = resize_labels(self.labels, self.output_size, out)
        confidence = self.confidence
        if confidence is not None:
            confidence = resize_confidence(confidence, self.output_size, confidence_out)
        return replace(self, labels=labels, confidence=confidence)

    def colorize(self) -> np.ndarray:
        """Return the labels in their classes' colours, uint8 (H, W, 3) RGB, of the labels' size."""
        return colorize(self.labels, self.label_set.palette())

    def overlay(self, opacity: float = OPACITY) -> np.ndarray:
        """Lay the classes' colours over the camera's image.

        Args:
            opacity: share of the colours, from 0 (the image alone) to 1 (the colours alone).

        Returns:
            uint8 (H, W, 3) RGB, of the labels' size.

        Raises:
            ValueError: `opacity` is out of its range.
        """
        height, width = self.labels.shape
        return overlay(to_rgb(self.frame, (width, height)), self.labels, self.label_set.palette(), opacity)


@dataclass(frozen=True)
class SegmenterConfig:
    """All that decides what a frame becomes; immutable, read once a batch, swapped by reference.

    Attributes:
        manifest, label_set, engine: the model and what runs it.
        input_size: (width, height) of the network's input [px]; a height of 0 is the manifest's, a width of 0
            keeps each camera's aspect ratio.
        output_resolution: 'input', the camera's, or 'network'.
        sizes: what says at which size a frame is seen while the engine for its own is being built; without
            it frames wait for that. Batches are of one frame then.
    """

    manifest: ModelManifest
    label_set: LabelSet
    engine: Engine
    input_size: tuple[int, int] = (0, 0)
    output_resolution: str = "input"
    sizes: Sizes | None = None

    def network_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) at which the network sees the frame [px].

        By default the manifest's height and the frame's aspect ratio, rounded to a multiple of 8: a model
        trained on 4:3 never gets a squeezed 16:9 frame.
        """
        width, height = self.input_size
        height = height or self.manifest.height
        return width or width_for((frame.width, frame.height), height), height


def width_for(size: tuple[int, int], height: int) -> int:
    """Width of the network's input that keeps the aspect ratio of a (width, height), a multiple of 8 [px]."""
    width = round(height * size[0] / size[1] / SIDE_MULTIPLE) * SIDE_MULTIPLE
    # A strip of an image must not become a network input that fills the memory.
    return min(max(width, MIN_SIDE_PX), MAX_SIDE_PX)


class Segmenter:
    """Turns frames into label images; not to be called by two threads at once.

    Attributes:
        config: replaced as a whole to change model, engine or sizes between two batches.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        # Two, in turn: the results of a batch are published while the next one is at work.
        self._inputs = [np.empty((0, 0, 0, 3), np.uint8) for _ in range(2)]

    @staticmethod
    def build(
        manifest: ModelManifest,
        engine: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] = (0, 0),
        output_resolution: str = "input",
        gate: Gate | None = None,
        parallel: int = 1,
    ) -> Segmenter:
        """Build engine and segmenter for a model; see `build_engine` and `SegmenterConfig` for the arguments.

        Raises:
            EngineError, ModelError: the engine cannot be built, or the model cannot be loaded.
        """
        labels = manifest.labels()
        built = build_engine(manifest, engine, precision, gate, parallel)
        return Segmenter(SegmenterConfig(manifest, labels, built, input_size, output_resolution))

    def sharing(self) -> Segmenter:
        """Another segmenter with the same engine, for another thread."""
        return Segmenter(self.config)

    def prepare(self) -> None:
        """Have the engine ready for the first frame where the network's size does not depend on it.

        Raises:
            EngineError: it cannot run the model at this size.
        """
        width, height = self.config.input_size
        height = height or self.config.manifest.height
        if width and self.config.sizes is not None:
            self.config.sizes.prepare((width, height))
        elif width:
            self.config.engine.prepare(1, height, width)

    def segment(self, frames: Sequence[Frame], confidence: bool = False) -> list[Segmentation]:
        """Segment frames as one batch, with labels and confidence at their output size.

        Raises:
            ValueError: the frames do not come to the same network size, or there are none.
            EngineError: the engine failed.
            ImageError, Closed: as `Sizes.choose` raises them.
        """
        return [result.resized() for result in self.infer(frames, confidence)]

    def infer(self, frames: Sequence[Frame], confidence: bool = False) -> list[Segmentation]:
        """As `segment`, but labels and confidence have the network's size still."""
        config = self.config
        sizes = {config.network_size(frame) for frame in frames}
        if len(sizes) != 1:
            raise ValueError(f"a batch needs frames of one network size, these have {sorted(sizes)}")
        (own,) = sizes
        seen = Seen(own, confidence)
        if config.sizes is not None:
            seen = config.sizes.choose(*seen)
        width, height = seen.size
        inputs = self._next_inputs((len(frames), height, width, 3))
        preprocess_ms = []
        for frame, buffer in zip(frames, inputs):
            started = time.perf_counter()
            to_rgb(frame, (width, height), out=buffer)
            preprocess_ms.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        labels, confidences = config.engine.infer(inputs, seen.confidence)
        inference_ms = (time.perf_counter() - started) * 1e3
        return [
            Segmentation(
                frame,
                config.label_set,
                labels[i],
                confidences[i] if confidence and confidences is not None else None,
                inputs[i],
                (frame.width, frame.height) if config.output_resolution == "input" else own,
                preprocess_ms[i],
                inference_ms,
            )
            for i, frame in enumerate(frames)
        ]

    def _next_inputs(self, shape: tuple[int, ...]) -> np.ndarray:
        self._inputs.reverse()
        if self._inputs[0].shape != shape:
            self._inputs[0] = np.empty(shape, np.uint8)
        return self._inputs[0]
