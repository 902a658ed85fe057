"""The front door: a model by its name, images in, labels out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from rt_segmentation.groups import grouping
from rt_segmentation.imaging.codec import MAX_SIDE_PX, MIN_SIDE_PX, check_size
from rt_segmentation.imaging.errors import PlacementError
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.imaging.placement import check_roi, check_rotation
from rt_segmentation.inference.engines import EngineError, build_engine
from rt_segmentation.inference.segmenter import Segmentation, SegmenterConfig
from rt_segmentation.inference.segmenter import Segmenter as FrameSegmenter
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelManifest, find_model

Image = npt.NDArray[Any] | Frame
"""An RGB image, uint8 (H, W, 3), or a gray one, uint8 (H, W), or a camera's frame."""


class Segmenter(FrameSegmenter):
    """Segments images with a model, on the fastest engine there is.

    The first image of each size builds the engine for it, or takes it from the cache, which takes seconds.
    Not to be called by two threads concurrently.

    Args:
        model: a name as ``lednet``, the path of a manifest (.yaml), or a manifest.
        engine: what executes the model: ``openvino``, ``onnxruntime``, ``torch``, ``torch2trt``,
            ``tensorrt``, or ``auto``.
        precision: its arithmetic: ``fp32``, ``fp16``, ``bf16``, ``int8``, or ``auto``.
        input_size: (width, height) of the network's input [px]; a height of 0 is the manifest's, and a width
            of 0 keeps each image's aspect ratio.
        roi: (x, y, width, height) of the part of an image that the network sees [px]; labels are 255 outside.
            None, or zeros, is the whole image.
        rotation: degrees clockwise by which the images are turned upright for the network: 0, 90, 180 or 270.
        letterbox: pad the images, and keep their aspect ratio, where `input_size` has a width.
        groups: of the model's classes, which labels become: a name as ``driving``, or the path of a file
            (.yaml); empty for the classes themselves.

    Raises:
        ModelError: there is no such model, or its files are damaged.
        GroupsError: there are no such groups, or they are not of the model's classes.
        PlacementError: `roi`, `rotation` or `letterbox` is none.
        EngineError: the engine is unknown or cannot run here, or `input_size` is no size of an input.
    """

    def __init__(
        self,
        model: str | Path | ModelManifest,
        engine: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] = (0, 0),
        *,
        roi: tuple[int, int, int, int] | None = None,
        rotation: int = 0,
        letterbox: bool = False,
        groups: str | Path = "",
    ) -> None:
        _check_size(input_size)
        if isinstance(roi, np.ndarray):
            roi = roi.tolist()
        # As the node has it: no numbers, or zeros, are the whole image.
        if isinstance(roi, Sequence) and all(isinstance(side, Real) and not side for side in roi):
            roi = None
        for name, value, why in (
            ("roi", roi, "" if roi is None else check_roi(roi)),
            ("rotation", rotation, check_rotation(rotation)),
            ("letterbox", letterbox, "" if isinstance(letterbox, bool) else "it must be True or False"),
        ):
            if why:
                raise PlacementError(f"{name} is {value!r}: {why}")
        manifest = model if isinstance(model, ModelManifest) else find_model(model)
        labels = manifest.labels()
        # Before the engine, which takes longer.
        grouped = grouping(groups or "", labels)
        super().__init__(
            SegmenterConfig(
                manifest,
                labels,
                build_engine(manifest, engine, precision),
                input_size,
                roi=None if roi is None else Region(*roi),
                rotation=rotation,
                letterbox=letterbox,
                groups=grouped,
            )
        )

    @property
    def label_set(self) -> LabelSet:
        """What the ids of the labels mean: the model's classes, or the groups of them."""
        return self.config.output_label_set

    @overload
    def __call__(self, images: Image, confidence: bool = False) -> Segmentation: ...
    @overload
    def __call__(self, images: Sequence[Image], confidence: bool = False) -> list[Segmentation]: ...
    @overload
    def __call__(self, images: Iterator[Image], confidence: bool = False) -> Iterator[Segmentation]: ...
    def __call__(
        self, images: Image | Sequence[Image] | Iterator[Image], confidence: bool = False
    ) -> Segmentation | list[Segmentation] | Iterator[Segmentation]:
        """Segment one image, a list of them, or any number from an iterator, one after the other.

        Args:
            images: RGB (OpenCV reads BGR: give ``bgr[..., ::-1]``); sizes may differ.
            confidence: also give the top class's probability per pixel.

        Returns:
            One result, a list, or an iterator that works as it is read. Labels have the image's size.

        Raises:
            ImageError: a ValueError; an image has another shape or type, a side of less than 32 or more
                than 7680 px, or `roi` is not within it.
            EngineError: the engine failed.
        """
        if isinstance(images, Iterator):
            return (self._segment(image, confidence) for image in images)
        # A path, or a file's bytes, is no list of images.
        if isinstance(images, Sequence) and not isinstance(images, (str, bytes, bytearray)):
            return [self._segment(image, confidence) for image in images]
        return self._segment(images, confidence)

    def _segment(self, image: Image, confidence: bool) -> Segmentation:
        frame = image if isinstance(image, Frame) else Frame.from_rgb(image)
        # As in the node: of fewer pixels a network gives labels that mean nothing.
        check_size("The image", frame.width, frame.height)
        (result,) = self.segment([frame], confidence, kept=True)
        return result


def _check_size(size: Any) -> None:
    sides = list(size) if isinstance(size, Sequence) else []
    if len(sides) != 2 or not all(
        isinstance(side, (int, np.integer)) and (side == 0 or MIN_SIDE_PX <= side <= MAX_SIDE_PX)
        for side in sides
    ):
        raise EngineError(
            f"input_size is {size!r}; it must be (width, height), each 0 or from {MIN_SIDE_PX} to"
            f" {MAX_SIDE_PX} px"
        )
