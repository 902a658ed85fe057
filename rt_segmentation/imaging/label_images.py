"""Label images of others: a class id a pixel, in any depth and in any container that changes none of them."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.codec import Buffer, check_size, decode_file, decode_image, view_samples
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.headers import Header, as_grey_png, read_header

MAX_ID = 255
"""The largest number in a label image; it means unlabelled."""

_ONE_CHANNEL = {
    "mono8": "u1", "8UC1": "u1", "8SC1": "i1",
    "mono16": "u2", "16UC1": "u2", "16SC1": "i2",
    "32SC1": "i4",
}  # fmt: skip
_THREE_CHANNELS = ("rgb8", "bgr8", "8UC3")
RAW_ENCODINGS = (*_ONE_CHANNEL, *_THREE_CHANNELS)
"""Encodings of ``sensor_msgs/Image`` that may hold ids; colours only where R = G = B."""


def decode_raw_labels(
    encoding: str, width: int, height: int, step: int, is_bigendian: bool, data: Buffer
) -> npt.NDArray[np.uint8]:
    """Reads the fields of a ``sensor_msgs/Image`` as ids, uint8 (H, W).

    Args:
        encoding: One of `RAW_ENCODINGS`.
        width: As for `decode_image`, as are the rest.
        height: [px]
        step: [bytes]
        is_bigendian: The byte order.
        data: The bytes; the result may be a view on them.

    Raises:
        ImageError: ``unknown_encoding`` for another encoding, ``undecodable`` for numbers that are no ids,
            and what `decode_image` raises.
    """
    if encoding in _THREE_CHANNELS:
        image = decode_image(encoding, width, height, step, is_bigendian, data, smallest_px=1)
        return ids_of(image.planes[0])
    if encoding not in _ONE_CHANNEL:
        raise ImageError(
            "unknown_encoding",
            f"The labels are of encoding {encoding!r}; "
            f"label images hold a class id a pixel in one of {', '.join(RAW_ENCODINGS)}.",
        )
    dtype = np.dtype(_ONE_CHANNEL[encoding])
    samples = view_samples(encoding, dtype.itemsize, width, height, step, is_bigendian, data)
    return ids_of(samples.view(np.dtype(f"{samples.dtype.byteorder}{_ONE_CHANNEL[encoding]}")))


def decode_label_file(data: Buffer) -> npt.NDArray[np.uint8]:
    """Decodes the PNG or lossless WebP of a ``sensor_msgs/CompressedImage`` as ids, uint8 (H, W).

    Raises:
        ImageError: As `decode_stored`, ``undecodable`` for numbers or colours that are no ids, ``bad_size``
            before anything is decoded.
    """
    raw = bytes(data)
    header = read_header(raw)
    if header is not None:
        check_size(f"The {header.kind}", header.width, header.height, 1)
    return decode_ids(raw)


def decode_ids(data: Buffer) -> npt.NDArray[np.uint8]:
    """Decodes a label file as ids, uint8 (H, W); of a palette they are the colours' numbers.

    Raises:
        ImageError: As `decode_stored`, ``undecodable`` for numbers or colours that are no ids.
    """
    raw = bytes(data)
    header = read_header(raw)
    if header is None or not header.palette:
        return ids_of(decode_stored(raw))
    grey, palette = as_grey_png(raw)
    ids = cast("npt.NDArray[np.uint8]", decode_stored(grey))
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    if (colours == colours[:, :1]).all():
        # A picture of grey ids that a program stored with a palette has its ids in the colours; one in black
        # and white has them in the numbers. Where the two differ, nothing in the file says which it is.
        levels = np.full(256, -1)
        levels[: len(colours)] = colours[:, 0]
        numbers = np.unique(ids)
        if not np.array_equal(levels[numbers], numbers):
            raise ImageError(
                "undecodable",
                "The labels have a palette of greys that differ from their numbers, and either could be the"
                " ids; label images hold a class id a pixel, in one channel.",
            )
    return ids


def decode_stored(data: Buffer) -> npt.NDArray[Any]:
    """Decodes a label file to what it stores.

    Returns:
        Grey as uint8 or uint16 (H, W), the numbers as they are at any depth; colours, also of a palette, as
        uint8 (H, W, 3) RGB. Of 16-bit channels that are all equal, one, as grey.

    Raises:
        ImageError: ``unknown_encoding`` where it is neither PNG nor WebP, or its compression changes ids;
            ``undecodable`` where it is broken, or its colours have 16 bits.
    """
    raw = bytes(data)
    header = read_header(raw)
    if header is None or not header.lossless:
        what = (
            f"a {_kind(header)}"
            if header
            else f"no such file: it starts with {raw[:4].hex(' ') or 'nothing'}"
        )
        reason = ", which changes ids" if header else ""
        raise ImageError(
            "unknown_encoding",
            f"The label image is {what}{reason}; label images are PNG or lossless WebP.",
        )
    if not header.grey and header.bits == 16:
        # Without ANYDEPTH, OpenCV would keep the upper eight bits, where ids have nothing.
        mode = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        return _equal_channel(decode_file(raw, header, mode), "16-bit colours")
    if not header.grey:
        pixels = decode_file(raw, header, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    mode = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = decode_file(raw, header, mode)
    # OpenCV stretches the numbers of 1, 2 and 4 bits to 0 to 255, and by whole steps.
    return pixels // np.uint8(255 // ((1 << header.bits) - 1)) if header.bits < 8 else pixels


def ids_of(stored: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Numbers (H, W) of any type, or colours (H, W, 3) with R = G = B, as ids, uint8 (H, W).

    Raises:
        ImageError: ``undecodable``: they are no ids; the sentence says which numbers they are.
    """
    if stored.ndim == 3:
        stored = _equal_channel(stored, "colours")
    if stored.dtype == np.uint8:
        return cast("npt.NDArray[np.uint8]", stored)
    low, high = int(stored.min()), int(stored.max())
    if low < 0 or high > MAX_ID:
        raise ImageError(
            "undecodable",
            f"The labels hold numbers from {low} to {high}; class ids are 0 to {MAX_ID - 1}, "
            f"and {MAX_ID} is unlabelled.",
        )
    return stored.astype(np.uint8)


def _equal_channel(colours: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """The one channel (H, W) that all three are."""
    first = colours[..., 0]
    if not all(np.array_equal(first, colours[..., i]) for i in (1, 2)):
        raise ImageError(
            "undecodable",
            f"The labels are {what}; label images hold a class id a pixel, in one channel.",
        )
    return first


def _kind(header: Header) -> str:
    return "lossy WebP" if header.kind == "WebP" else header.kind
