"""Bag images as files: byte by byte where the bag has JPEG or PNG, as PNG without loss otherwise."""

from __future__ import annotations

import cv2
import numpy as np

from rt_segmentation.bags.frames import COMPRESSED_IMAGE, to_frame
from rt_segmentation.bags.reading import Message
from rt_segmentation.imaging.convert import to_rgb
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.headers import read_header
from rt_segmentation.imaging.levels import EIGHT_BIT_FORMATS

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}
AS_RECORDED = "as recorded"
_DEEP_TO_BGR = {
    "rgb16": cv2.COLOR_RGB2BGR,
    "rgba16": cv2.COLOR_RGBA2BGR,
    "bgra16": cv2.COLOR_BGRA2BGR,
}


def image_file(message: Message) -> tuple[bytes, str, str]:
    """The file of an image message.

    A JPEG or PNG is copied where its pixels are what a file's reader shows: a compressed Bayer mosaic is no
    picture, and what an EXIF orientation turns the model has not seen turned.

    Returns:
        The file's content, its suffix, and in words how it was made.

    Raises:
        ImageError: the image is damaged, or its encoding is unknown.
    """
    frame = to_frame(message)
    if message.type == COMPRESSED_IMAGE and not frame.pixel_format.startswith("bayer_"):
        data = bytes(message.content.data)
        header = read_header(data)
        if header is not None and header.kind in SUFFIXES and not _turned(data, frame):
            return data, SUFFIXES[header.kind], AS_RECORDED
    pixels, how = _pixels(frame)
    encoded = cv2.imencode(".png", pixels)[1].tobytes()
    return encoded, ".png", how


def _turned(data: bytes, frame: Frame) -> bool:
    """Whether a reader that heeds the EXIF orientation shows other pixels."""
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    stored = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_IGNORE_ORIENTATION
    )
    return shown is None or stored is None or not np.array_equal(shown, stored)


def _pixels(frame: Frame) -> tuple[np.ndarray, str]:
    """What a PNG has of a frame, gray or BGR, and in words how it came about."""
    plane, kind = frame.planes[0], frame.pixel_format
    if kind in ("mono8", "mono16", "bgr8", "bgr16"):
        return _native(plane), "PNG of the same pixels"
    if kind in _DEEP_TO_BGR:
        return cv2.cvtColor(_native(plane), _DEEP_TO_BGR[kind]), "PNG of the same pixels"
    if kind in EIGHT_BIT_FORMATS:
        return _demosaiced(frame), f"PNG of 16 bits, made of {kind}"
    bgr = cv2.cvtColor(to_rgb(frame), cv2.COLOR_RGB2BGR)
    same = kind in ("rgb8", "rgba8", "bgra8")
    return bgr, "PNG of the same pixels" if same else f"PNG, made of {kind}"


def _native(plane: np.ndarray) -> np.ndarray:
    """Without padding, and in the order of bytes that OpenCV knows."""
    return np.ascontiguousarray(plane, plane.dtype.newbyteorder("="))


def _demosaiced(frame: Frame) -> np.ndarray:
    """A 16-bit mosaic as BGR of 16 bits."""
    codes = {
        "bayer_rggb16": cv2.COLOR_BayerBG2BGR,
        "bayer_bggr16": cv2.COLOR_BayerRG2BGR,
        "bayer_gbrg16": cv2.COLOR_BayerGR2BGR,
        "bayer_grbg16": cv2.COLOR_BayerGB2BGR,
    }
    return cv2.cvtColor(_native(frame.planes[0]), codes[frame.pixel_format])
