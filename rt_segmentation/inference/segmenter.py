"""The segmenter: from camera frames to label images at the camera's size."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rt_segmentation.groups import Grouping
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.imaging.placement import INPUT, Placement, place, region_of, turn, width_for
from rt_segmentation.imaging.render import OPACITY, colorize, overlay
from rt_segmentation.inference.engines import Engine, EngineError, build_engine
from rt_segmentation.inference.engines.planned import PlannedEngine
from rt_segmentation.inference.parity import Gate
from rt_segmentation.inference.sizes import Seen, Sizes
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelManifest

KEPT_PLACEMENTS = 64


@dataclass(frozen=True, eq=False)
class ModelAnswer:
    """A model's labels of a frame, whatever groups are made of them.

    Attributes:
        manifest: the model.
        label_set: its classes.
        labels: class ids, uint8 (h, w), of the network's size.
    """

    manifest: ModelManifest
    label_set: LabelSet
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a frame shows, and what said so. Compares by identity, as arrays have no single truth value.

    Attributes:
        frame: the camera's image.
        label_set: what the ids of `labels` mean: the model's classes, or groups of them.
        labels: uint8 (H, W), an id a pixel; 255 where the network saw nothing, and for classes of no group.
        confidence: top-1 probability x 255, uint8 (H, W), or None if it was not asked for, or the engine that
            computes it is not ready yet.
        rgb: the network's input, uint8 (h, w, 3), valid until the call after the next of the segmenter if it
            was not asked to be kept; the frame's own pixels where they are just that.
        placement: where the mask's pixels lie in the camera's image, and its size.
        preprocess_ms: demosaicing, resizing and conversion of this frame.
        inference_ms: the engine's time for the whole batch.
        answer: what the model itself said; None where it was not asked.
    """

    frame: Frame
    label_set: LabelSet
    labels: np.ndarray
    confidence: np.ndarray | None
    rgb: np.ndarray
    placement: Placement
    preprocess_ms: float
    inference_ms: float
    answer: ModelAnswer | None = None

    def resized(
        self, out: np.ndarray | None = None, confidence_out: np.ndarray | None = None
    ) -> Segmentation:
        """The same with labels and confidence of the mask's size, written into the arrays that are given."""
        labels = self.placement.labels_back(self.labels, out)
        confidence = self.confidence
        if confidence is not None:
            confidence = self.placement.confidence_back(confidence, confidence_out)
        return replace(self, labels=labels, confidence=confidence)

    def colorize(self) -> np.ndarray:
        """Return the labels in their classes' colours, uint8 (H, W, 3) RGB, of the labels' size."""
        return colorize(self.labels, self.label_set.palette())

    def overlay(self, opacity: float = OPACITY) -> np.ndarray:
        """Lay the classes' colours over the camera's image, or over the part of it that the mask covers.

        Args:
            opacity: share of the colours, from 0 (the image alone) to 1 (the colours alone).

        Returns:
            uint8 (H, W, 3) RGB, of the labels' size.

        Raises:
            ValueError: `opacity` is out of its range.
        """
        rgb = self.placement.to_mask(self.frame)
        return overlay(rgb, self.labels, self.label_set.palette(), opacity)


@dataclass(frozen=True)
class SegmenterConfig:
    """All that decides what a frame becomes; immutable, read once a batch, swapped by reference.

    Attributes:
        manifest, label_set, engine: the model and what runs it.
        input_size: (width, height) of the network's input [px]; a height of 0 is the manifest's, a width of 0
            keeps each camera's aspect ratio. (0, 0) is the only size of a model that has but one.
        output_resolution: 'input', the camera's, 'network', or a size as '320x240'; see `place`.
        sizes: what says at which size a frame is seen while the engine for its own is being built; without
            it frames wait for that. Batches are of one frame then.
        roi: the part of the camera's images that the network sees; None for all of it.
        rotation: degrees clockwise by which they are turned upright: 0, 90, 180 or 270.
        letterbox: whether an image is padded to its aspect ratio where `input_size` has a width.
        groups: of the model's classes, which labels become; None for the classes themselves.
        sources: for frames of these sources, the same with a geometry of their own; see `of`.
    """

    manifest: ModelManifest
    label_set: LabelSet
    engine: Engine
    input_size: tuple[int, int] = (0, 0)
    output_resolution: str = INPUT
    sizes: Sizes | None = None
    roi: Region | None = None
    rotation: int = 0
    letterbox: bool = False
    groups: Grouping | None = None
    sources: Mapping[str, SegmenterConfig] = field(default_factory=dict)
    _placements: dict[tuple[int, int, tuple[int, int] | None], Placement] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def output_label_set(self) -> LabelSet:
        """What the ids of the labels that are handed out mean."""
        return self.label_set if self.groups is None else self.groups.label_set

    def of(self, source: str) -> SegmenterConfig:
        """What frames of a source are segmented by; this one, where it has none of its own."""
        return self.sources.get(source, self)

    def network_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) at which the network sees the frame [px].

        By default the manifest's height and the frame's aspect ratio, rounded to a multiple of 8: a model
        trained on 4:3 never gets a squeezed 16:9 frame.

        Raises:
            ImageError: `roi` is not within the frame.
        """
        return self.placement(frame).network

    def prepare(self, camera: tuple[int, int] | None = None, confidence: bool = False) -> None:
        """Have the engine ready for the first frame: built, judged, and run once.

        Args:
            camera: (width, height) of the camera's images [px]; without it nothing happens unless
                `input_size` has a width, as the network's size depends on it.
            confidence: whether it will be asked for.

        Raises:
            ImageError: `roi` is not within such an image.
            EngineError: the engine cannot run the model at this size.
        """
        width, height = self._asked_size()
        if camera is not None:
            width, height = self._place(camera, None).network
        elif width:
            height = height or self.manifest.height
        else:
            return
        if self.sizes is not None:
            self.sizes.prepare((width, height), confidence)
        else:
            self.engine.prepare(1, height, width, confidence)

    def placement(self, frame: Frame, network: tuple[int, int] | None = None) -> Placement:
        """Where the frame's pixels go and where the mask's come from; made once for all frames of a size.

        Args:
            frame: any of its size.
            network: (width, height) at which the network sees it for the time being [px]; by default its own.

        Raises:
            ImageError: `roi` is not within the frame.
        """
        key = frame.width, frame.height, network
        placement = self._placements.get(key)
        if placement is None:
            # Damaged headers may state any number of sizes.
            if len(self._placements) >= KEPT_PLACEMENTS:
                self._placements.clear()
            placement = self._placements[key] = self._place((frame.width, frame.height), network)
        return placement

    def _asked_size(self) -> tuple[int, int]:
        """`input_size`, or the only size that the model takes."""
        return self.input_size if self.input_size != (0, 0) else self.manifest.fixed_size or (0, 0)

    def _place(self, image: tuple[int, int], network: tuple[int, int] | None) -> Placement:
        width, height = self._asked_size()
        height = height or self.manifest.height
        upright = turn(region_of(image, self.roi).size, self.rotation)
        own = width or width_for(upright, height), height
        # Padding that is zero once it is normalised, as what the network's convolutions pad with.
        red, green, blue = (round(255 * mean) for mean in self.manifest.mean)
        return place(
            image,
            network or own,
            region=self.roi,
            rotation=self.rotation,
            letterbox=self.letterbox and width > 0,
            resolution=self.output_resolution,
            own=own,
            padding=(red, green, blue),
        )


class SizesDiffer(ValueError):
    """Frames that cannot be one batch, as the network would see them at several sizes."""


@dataclass
class Current:
    """What all segmenters of a stream read, once a batch.

    Attributes:
        config: swapped by reference, between two batches, by the one thread that owns it.
    """

    config: SegmenterConfig


class Segmenter:
    """Turns frames into label images; not to be called by two threads concurrently.

    Args:
        config: what decides what a frame becomes, or the holder of it that several segmenters share.
    """

    def __init__(self, config: SegmenterConfig | Current) -> None:
        self._current = config if isinstance(config, Current) else Current(config)
        # Two, in turn: the results of a batch are published while the next one is at work.
        self._inputs = [np.empty((0, 0, 0, 3), np.uint8) for _ in range(2)]

    @staticmethod
    def build(
        manifest: ModelManifest,
        engine: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] = (0, 0),
        output_resolution: str = INPUT,
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

    @property
    def config(self) -> SegmenterConfig:
        """What the next batch is segmented by."""
        return self._current.config

    @config.setter
    def config(self, config: SegmenterConfig) -> None:
        self._current.config = config

    def sharing(self) -> Segmenter:
        """Another segmenter of the same stream, for another thread: they share their configuration."""
        return Segmenter(self._current)

    @property
    def batch(self) -> int:
        """So many frames are segmented faster as a batch than one after the other; 1 where none are."""
        engine = self.config.engine
        return engine.plan.batch if isinstance(engine, PlannedEngine) else 1

    def refuse_batches(self, why: str) -> None:
        """Give the engine single frames from now on; why, in words."""
        engine = self.config.engine
        if isinstance(engine, PlannedEngine):
            engine.refuse_batches(why)

    def segment(
        self, frames: Sequence[Frame], confidence: bool = False, *, kept: bool = False
    ) -> list[Segmentation]:
        """Segment frames as one batch, with labels and confidence at their output size; see `infer`.

        Raises:
            SizesDiffer: the frames do not come to the same network size, or there are none.
            ImageError: the region of interest is not within a frame.
            EngineError: the engine failed.
            ImageError, Closed: as `Sizes.choose` raises them.
        """
        return [result.resized() for result in self.infer(frames, confidence, kept=kept)]

    def infer(
        self,
        frames: Sequence[Frame],
        confidence: bool = False,
        sources: Sequence[str] = (),
        *,
        kept: bool = False,
    ) -> list[Segmentation]:
        """As `segment`, but labels and confidence have the network's size still.

        Args:
            frames: as there.
            confidence: as there.
            sources: of the frames, where they have geometries of their own.
            kept: whether the network's input stays valid, however many calls follow.
        """
        config = self.config
        views = [config.of(source) for source in sources or [""] * len(frames)]
        placements = [view.placement(frame) for view, frame in zip(views, frames)]
        sizes = {placement.network for placement in placements}
        if len(sizes) != 1:
            raise SizesDiffer(f"a batch needs frames of one network size, these have {sorted(sizes)}")
        (own,) = sizes
        seen = Seen(own, confidence)
        if config.sizes is not None:
            seen = config.sizes.choose(*seen)
        width, height = seen.size
        if seen.size != own:
            placements = [view.placement(frame, seen.size) for view, frame in zip(views, frames)]
        pixels = placements[0].own_pixels(frames[0]) if len(frames) == 1 else None
        if pixels is not None:
            inputs = pixels[np.newaxis]
        else:
            shape = (len(frames), height, width, 3)
            inputs = np.empty(shape, np.uint8) if kept else self._next_inputs(shape)
        preprocess_ms = []
        for frame, placement, buffer in zip(frames, placements, inputs):
            started = time.perf_counter()
            if pixels is None:
                placement.to_network(frame, buffer)
            preprocess_ms.append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
        labels, confidences = config.engine.infer(inputs, seen.confidence)
        inference_ms = (time.perf_counter() - started) * 1e3
        _check(config.engine, "labels", labels, inputs)
        if confidences is not None:
            _check(config.engine, "confidence", confidences, inputs)
        return [
            Segmentation(
                frame,
                config.output_label_set,
                labels[i] if config.groups is None else config.groups.apply(labels[i]),
                confidences[i] if confidence and confidences is not None else None,
                inputs[i],
                placements[i],
                preprocess_ms[i],
                inference_ms,
                ModelAnswer(config.manifest, config.label_set, labels[i]),
            )
            for i, frame in enumerate(frames)
        ]

    def _next_inputs(self, shape: tuple[int, ...]) -> np.ndarray:
        self._inputs.reverse()
        if self._inputs[0].shape != shape:
            self._inputs[0] = np.empty(shape, np.uint8)
        return self._inputs[0]


def _check(engine: Engine, name: str, given: object, inputs: np.ndarray) -> None:
    """Refuse what an engine of somebody's own may give: else it becomes a mask that means nothing."""
    wanted = inputs.shape[:3]
    if not isinstance(given, np.ndarray):
        what = f"{type(given).__name__} for {name}"
    elif given.shape != wanted or given.dtype != np.uint8:
        what = f"{name} of {given.dtype} and shape {given.shape}"
    else:
        return
    raise EngineError(f"engine '{engine.name}' gave {what}; they must be uint8 of shape {wanted}")
