"""The segmenter: from camera frames to label images at the camera's size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rt_segmentation.imaging.codec import MAX_SIDE_PX, MIN_SIDE_PX
from rt_segmentation.imaging.convert import resize_confidence, resize_labels, to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.inference.engines import Engine, build_engine
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelManifest

SIDE_MULTIPLE = 8
"""The networks' sides: all halve their input at least three times."""


@dataclass(frozen=True)
class Segmentation:
    """What a frame shows.

    Attributes:
        labels: uint8 (H, W), a class id a pixel, at the frame's size or, with `output_resolution` 'network',
            at the network's.
        confidence: top-1 probability x 255, uint8 (H, W), or None if it was not asked for.
        rgb: the network's input, uint8 (h, w, 3), valid until the next call of `segment`.
        preprocess_ms: demosaicing, resizing and conversion of this frame.
        inference_ms: the engine's time for the whole batch.
        postprocess_ms: resizing of this frame's results.
    """

    labels: np.ndarray
    confidence: np.ndarray | None
    rgb: np.ndarray
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float


@dataclass(frozen=True)
class SegmenterConfig:
    """All that decides what a frame becomes; immutable, read once a batch, swapped by reference.

    Attributes:
        manifest, label_set, engine: the model and what runs it.
        input_size: (width, height) of the network's input [px]; a height of 0 is the manifest's, a width of 0
            keeps each camera's aspect ratio.
        output_resolution: 'input', the camera's, or 'network'.
    """

    manifest: ModelManifest
    label_set: LabelSet
    engine: Engine
    input_size: tuple[int, int] = (0, 0)
    output_resolution: str = "input"

    def network_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) at which the network sees the frame [px].

        By default the manifest's height and the frame's aspect ratio, rounded to a multiple of 8: a model
        trained on 4:3 never gets a squeezed 16:9 frame.
        """
        width, height = self.input_size
        height = height or self.manifest.height
        if width == 0:
            width = round(height * frame.width / frame.height / SIDE_MULTIPLE) * SIDE_MULTIPLE
            # A strip of an image must not become a network input that fills the memory.
            width = min(max(width, MIN_SIDE_PX), MAX_SIDE_PX)
        return width, height


class Segmenter:
    """Turns frames into label images; not to be called by two threads at once.

    Attributes:
        config: replaced as a whole to change model, engine or sizes between two batches.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        self._inputs: np.ndarray = np.empty((0, 0, 0, 3), np.uint8)

    @classmethod
    def build(
        cls,
        manifest: ModelManifest,
        engine: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] = (0, 0),
        output_resolution: str = "input",
    ) -> Segmenter:
        """Build engine and segmenter for a model.

        Raises:
            EngineError, ModelError: the engine cannot be built, or the model cannot be loaded.
        """
        labels = manifest.labels()
        return cls(
            SegmenterConfig(
                manifest, labels, build_engine(manifest, engine, precision), input_size, output_resolution
            )
        )

    def segment(self, frames: Sequence[Frame], confidence: bool = False) -> list[Segmentation]:
        """Segment frames as one batch; they must come to the same network size.

        Raises:
            ValueError: they do not, or there are none.
        """
        config = self.config
        sizes = {config.network_size(frame) for frame in frames}
        if len(sizes) != 1:
            raise ValueError(f"a batch needs frames of one network size, these have {sorted(sizes)}")
        ((width, height),) = sizes
        if self._inputs.shape != (len(frames), height, width, 3):
            self._inputs = np.empty((len(frames), height, width, 3), np.uint8)
        preprocess_ms = []
        for frame, buffer in zip(frames, self._inputs):
            started = time.perf_counter()
            to_rgb(frame, (width, height), out=buffer)
            preprocess_ms.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        labels, confidences = config.engine.infer(self._inputs, confidence)
        inference_ms = (time.perf_counter() - started) * 1e3
        return [
            self._finish(
                frame,
                labels[i],
                None if confidences is None else confidences[i],
                self._inputs[i],
                (preprocess_ms[i], inference_ms),
                config.output_resolution,
            )
            for i, frame in enumerate(frames)
        ]

    @staticmethod
    def _finish(
        frame: Frame,
        labels: np.ndarray,
        confidence: np.ndarray | None,
        rgb: np.ndarray,
        times_ms: tuple[float, float],
        output_resolution: str,
    ) -> Segmentation:
        started = time.perf_counter()
        size = (frame.width, frame.height)
        if output_resolution == "input" and labels.shape != (frame.height, frame.width):
            labels = resize_labels(labels, size)
            confidence = None if confidence is None else resize_confidence(confidence, size)
        postprocess_ms = (time.perf_counter() - started) * 1e3
        return Segmentation(labels, confidence, rgb, *times_ms, postprocess_ms)
