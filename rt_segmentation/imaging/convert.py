"""Frames to RGB at the size the network wants, and results back to the camera's size.

The order of work: a Bayer mosaic is demosaiced first, as its pattern does not survive a resize; YUV becomes
RGB and is resized then; packed formats and grey are resized first, so that fewer pixels are converted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.buffers import check_out
from rt_segmentation.imaging.frame import Frame, Region, Size
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS, Levels

_PIXELWISE_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}
_NEIGHBOURS_TO_RGB = {
    # ROS names a pattern from the image's first pixel on, these OpenCV names from the second row's
    # second one; OpenCV's newer names, which match, are missing from older releases.
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuyv": cv2.COLOR_YUV2RGB_YUYV,
}
_TWO_PLANES_TO_RGB = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}

# BT.601, limited range, as OpenCV has it for subsampled YUV; for 4:4:4 it only has a full-range code.
_BT601 = np.array([[1.164, 0.0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0.0]], np.float32)
_BT601_AFFINE = np.hstack([_BT601, -_BT601 @ np.array([[16.0], [128.0], [128.0]], np.float32)])
_BLACK = np.uint8(16)


def to_rgb(
    frame: Frame,
    size: Size | None = None,
    out: npt.NDArray[np.uint8] | None = None,
    region: Region | None = None,
) -> npt.NDArray[np.uint8]:
    """Converts a frame to RGB.

    YUV is read as BT.601 limited range, mono is repeated in all three channels, alpha is dropped. Of samples
    of 16 bits this image alone decides which are black and white; `Levels` does it for a camera. An image of
    which a side shrinks to less than half, and none grows, is averaged (INTER_AREA); any other resize is
    bilinear, which averages pairs at exactly half.

    Args:
        frame: A frame of ``decode_image`` or ``decode_compressed``.
        size: (width, height) of the result [px]; the region's own by default.
        out: (height, width, 3) uint8, C-contiguous, to write the result into; not memory of the frame.
        region: The part of the frame to convert, within it; all of it by default.

    Returns:
        (height, width, 3) uint8, C-contiguous: ``out`` where it is given, else a new array, or the frame's
        own plane where that is the result already (unpadded rgb8 at its own size), read-only as the message.

    Raises:
        ValueError: ``out`` does not fit.
    """
    if frame.pixel_format in EIGHT_BIT_FORMATS:
        frame = Levels(warn=lambda _: None)(frame)
    inside: Region | None = None
    if region is not None and region.size != (frame.width, frame.height):
        frame, inside = _cut(frame, region)
    own_size = (frame.width, frame.height) if inside is None else inside.size
    size = size or own_size
    check_out(out, (size[1], size[0], 3))
    interpolation = _interpolation(own_size, size)
    if frame.pixel_format == "rgb8":
        return _resize(frame.planes[0], size, interpolation, out)
    if frame.pixel_format in _PIXELWISE_TO_RGB:
        samples = frame.planes[0]
        if size != own_size:
            samples = _resize(samples, size, interpolation, None)
        return _uint8(cv2.cvtColor(samples, _PIXELWISE_TO_RGB[frame.pixel_format], dst=out))
    if inside is not None:
        return _resize(_full_size_rgb(frame, None)[inside.slices], size, interpolation, out)
    if size == own_size:
        return _full_size_rgb(frame, out)
    return _resize(_full_size_rgb(frame, None), size, interpolation, out)


def resize_labels(
    labels: npt.NDArray[np.uint8], size: Size, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Resizes a label image (H, W) to ``size`` (width, height) [px] by the nearest pixel, mixing no ids.

    Returns:
        (height, width) uint8: ``out`` where it is given; ``labels`` itself where it already has the size.

    Raises:
        ValueError: ``out`` does not fit.
    """
    check_out(out, (size[1], size[0]))
    # The exact variant takes the pixel under each centre; the plain one is shifted by up to half a pixel.
    return _resize(labels, size, cv2.INTER_NEAREST_EXACT, out)


def resize_confidence(
    confidence: npt.NDArray[np.uint8], size: Size, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Resizes a confidence image (H, W) to ``size`` (width, height) [px] bilinearly.

    Returns:
        (height, width) uint8: ``out`` where it is given; ``confidence`` itself where it already has the size.

    Raises:
        ValueError: ``out`` does not fit.
    """
    check_out(out, (size[1], size[0]))
    return _resize(confidence, size, cv2.INTER_LINEAR, out)


def _cut(frame: Frame, region: Region) -> tuple[Frame, Region | None]:
    """Views on a region's pixels and, where a pixel's colour needs its neighbours, on some around them.

    Returns:
        The smaller frame, and where in it the region lies; None where it is nothing else.
    """
    if frame.pixel_format == "rgb8" or frame.pixel_format in _PIXELWISE_TO_RGB:
        samples = frame.planes[0][region.slices]
        return replace(frame, planes=(samples,), width=region.width, height=region.height), None
    # A mosaic's pattern and the samples of chroma repeat every two pixels, and the colours at an edge are
    # made up: two more pixels on each side keep both as they are in the whole image.
    left, top = ((start - 2) // 2 * 2 if start > 2 else 0 for start in (region.x, region.y))
    right = min((region.x + region.width + 3) // 2 * 2, frame.width)
    bottom = min((region.y + region.height + 3) // 2 * 2, frame.height)
    around = Region(left, top, right - left, bottom - top)
    planes = tuple(_part(plane, around, frame) for plane in frame.planes)
    inside = Region(region.x - left, region.y - top, region.width, region.height)
    return replace(frame, planes=planes, width=around.width, height=around.height), inside


def _part(plane: npt.NDArray[Any], around: Region, frame: Frame) -> npt.NDArray[Any]:
    """The samples of a plane for a region of even coordinates; chroma may have fewer of them than pixels."""
    per_row, per_column = frame.height // plane.shape[0], frame.width // plane.shape[1]
    rows, columns = around.slices
    return plane[
        rows.start // per_row : -(-rows.stop // per_row),
        columns.start // per_column : -(-columns.stop // per_column),
    ]


def _full_size_rgb(frame: Frame, out: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    if frame.pixel_format in _NEIGHBOURS_TO_RGB:
        return _uint8(cv2.cvtColor(frame.planes[0], _NEIGHBOURS_TO_RGB[frame.pixel_format], dst=out))
    luma, chroma = frame.planes
    if frame.pixel_format in _TWO_PLANES_TO_RGB:
        return _uint8(cv2.cvtColorTwoPlane(luma, chroma, _TWO_PLANES_TO_RGB[frame.pixel_format], dst=out))
    # Luma below black counts as black, as in OpenCV's own YUV codes.
    yuv = cv2.merge([np.maximum(luma, _BLACK), chroma])
    return _uint8(cv2.transform(yuv, _BT601_AFFINE, dst=out))


def _interpolation(source: Size, target: Size) -> int:
    scale_x, scale_y = source[0] / target[0], source[1] / target[1]
    # Down to half bilinear sampling misses no pixel, and from 1280x720 to 640x384 it takes 0.2 ms, not 3.
    return cv2.INTER_AREA if min(scale_x, scale_y) >= 1 and max(scale_x, scale_y) > 2 else cv2.INTER_LINEAR


def _resize(
    image: npt.NDArray[np.uint8], size: Size, interpolation: int, out: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    if (image.shape[1], image.shape[0]) != size:
        return _uint8(cv2.resize(image, size, dst=out, interpolation=interpolation))
    if out is None:
        return np.ascontiguousarray(image)
    np.copyto(out, image)
    return out


def _uint8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Narrows the type of OpenCV's stubs, which know no dtype."""
    return cast("npt.NDArray[np.uint8]", image)
