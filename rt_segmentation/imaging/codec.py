"""Message bytes to frames, without a copy where the layout allows, and pictures to compressed bytes.

The encodings are those of ``sensor_msgs/image_encodings.hpp``; the layouts of the YUV formats are V4L2's (the
kernel's "Packed YUV formats" and "Planar YUV formats").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.imaging.headers import Header, read_header
from rt_segmentation.imaging.jpeg import endings, truncated_sentence

if TYPE_CHECKING:
    import array

# A string, as array.array takes no parameter at run time before Python 3.12.
Buffer: TypeAlias = "bytes | bytearray | memoryview | array.array[int] | npt.NDArray[Any]"

MIN_SIDE_PX = 32
"""The shortest side an image may have [px]: the networks need 32x32."""
MAX_SIDE_PX = 7680
"""The longest side an image may have [px]: 8K UHD is 7680x4320."""


@dataclass(frozen=True)
class _Plane:
    """One plane of a layout; ``shrink`` divides both sides, ``step_factor`` multiplies the message's step."""

    channels: int
    sample_bytes: int = 1
    shrink: int = 1
    step_factor: int = 1


@dataclass(frozen=True)
class _View:
    """Where a plane lies in the message's bytes."""

    start: int
    end: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    sample_bytes: int


_LAYOUTS: dict[str, tuple[_Plane, ...]] = {
    "rgb8": (_Plane(3),),
    "bgr8": (_Plane(3),),
    "rgba8": (_Plane(4),),
    "bgra8": (_Plane(4),),
    "mono8": (_Plane(1),),
    "mono16": (_Plane(1, sample_bytes=2),),
    "rgb16": (_Plane(3, sample_bytes=2),),
    "bgr16": (_Plane(3, sample_bytes=2),),
    "rgba16": (_Plane(4, sample_bytes=2),),
    "bgra16": (_Plane(4, sample_bytes=2),),
    "uyvy": (_Plane(2),),
    "yuyv": (_Plane(2),),
    "nv12": (_Plane(1), _Plane(2, shrink=2)),
    "nv21": (_Plane(1), _Plane(2, shrink=2)),
    "nv24": (_Plane(1), _Plane(2, step_factor=2)),
    "bayer_rggb8": (_Plane(1),),
    "bayer_bggr8": (_Plane(1),),
    "bayer_gbrg8": (_Plane(1),),
    "bayer_grbg8": (_Plane(1),),
    "bayer_rggb16": (_Plane(1, sample_bytes=2),),
    "bayer_bggr16": (_Plane(1, sample_bytes=2),),
    "bayer_gbrg16": (_Plane(1, sample_bytes=2),),
    "bayer_grbg16": (_Plane(1, sample_bytes=2),),
}
# OpenCV's matrix types have its order of colours; one 16-bit channel is an infrared camera's grey.
_ALIASES = {
    "8UC1": "mono8",
    "8UC3": "bgr8",
    "8UC4": "bgra8",
    "16UC1": "mono16",
    "16UC3": "bgr16",
    "16UC4": "bgra16",
    "yuv422": "uyvy",
    "yuv422_yuy2": "yuyv",
}
_MATRIX_TYPE = re.compile(r"(8|16|32|64)([USF])C(\d+)")
_EVEN_WIDTH = ("uyvy", "yuyv", "nv12", "nv21")
_EVEN_HEIGHT = ("nv12", "nv21")

ENCODINGS: tuple[str, ...] = (*_LAYOUTS, *_ALIASES)
"""Every ``sensor_msgs/Image`` encoding that ``decode_image`` takes."""


def decode_image(
    encoding: str,
    width: int,
    height: int,
    step: int,
    is_bigendian: bool,
    data: Buffer,
    *,
    stamp_ns: int = 0,
    frame_id: str = "",
    smallest_px: int = MIN_SIDE_PX,
) -> Frame:
    """Views the fields of a ``sensor_msgs/Image`` as a frame; no pixel is copied.

    ``step`` is the length of a row of the first plane [bytes] and may exceed the row's pixels; the last row
    may lack that padding. Chroma rows follow the ``height`` luma rows: in nv12 and nv21 with the same step,
    in nv24 with twice that.

    Args:
        encoding: One of ``ENCODINGS``.
        width: [px], up to MAX_SIDE_PX, even for 4:2:2 and 4:2:0.
        height: [px], up to MAX_SIDE_PX, even for 4:2:0.
        step: [bytes]
        is_bigendian: The byte order of two-byte samples; one-byte samples have none.
        data: The bytes, contiguous. The frame's planes are views on them and keep them alive.
        stamp_ns: The source's stamp since the epoch [ns].
        frame_id: The source's coordinate frame.
        smallest_px: What a side must have; a network sees nothing in less than MIN_SIDE_PX.

    Raises:
        ImageError: ``bad_size``, ``unknown_encoding``, ``bad_step`` or ``truncated``.
    """
    check_size(f"The {encoding} image", width, height, smallest_px)
    pixel_format = _ALIASES.get(encoding, encoding)
    layout = _LAYOUTS.get(pixel_format)
    if layout is None:
        raise ImageError("unknown_encoding", _unknown(encoding))
    _check_even(encoding, pixel_format, width, height)
    planes = _planes(encoding, layout, width, height, step, is_bigendian, data)
    return Frame(planes, pixel_format, width, height, stamp_ns, frame_id)


def view_samples(
    encoding: str,
    sample_bytes: int,
    width: int,
    height: int,
    step: int,
    is_bigendian: bool,
    data: Buffer,
) -> npt.NDArray[Any]:
    """Views the fields of a ``sensor_msgs/Image`` of one channel as unsigned numbers (H, W), without a copy.

    Args:
        encoding: Its name, for an error's sentence.
        sample_bytes: 1, 2 or 4.
        width: 1 to MAX_SIDE_PX: masks, and what goes with them, may be small.
        height: Likewise.
        step: [bytes]
        is_bigendian: The byte order.
        data: The bytes.

    Raises:
        ImageError: ``bad_size``, ``bad_step`` or ``truncated``.
    """
    check_size(f"The {encoding} image", width, height, 1)
    layout = (_Plane(1, sample_bytes=sample_bytes),)
    return _planes(encoding, layout, width, height, step, is_bigendian, data)[0]


def _planes(
    encoding: str,
    layout: tuple[_Plane, ...],
    width: int,
    height: int,
    step: int,
    is_bigendian: bool,
    data: Buffer,
) -> tuple[npt.NDArray[Any], ...]:
    row_bytes = width * layout[0].channels * layout[0].sample_bytes
    if step < row_bytes:
        raise ImageError(
            "bad_step",
            f"The {encoding} image's step is {step} bytes; a row of {width} px needs at least {row_bytes}.",
        )
    views = _views(layout, width, height, step)
    available = data.nbytes if isinstance(data, np.ndarray) else memoryview(data).nbytes
    needed = views[-1].end
    if available < needed:
        raise ImageError(
            "truncated",
            f"The {encoding} image of {width}x{height} px with step {step} has {available} bytes of data; "
            f"it needs at least {needed}.",
        )
    order = ">" if is_bigendian else "<"
    return tuple(
        np.ndarray(view.shape, np.dtype(f"{order}u{view.sample_bytes}"), data, view.start, view.strides)
        for view in views
    )


def decode_compressed(format: str, data: Buffer, *, stamp_ns: int = 0, frame_id: str = "") -> Frame:
    """Decodes the fields of a ``sensor_msgs/CompressedImage``: a JPEG, PNG or WebP file.

    The file's own signature decides what it is, as in image_transport. ``format`` may be a plain ``jpeg`` or
    image_transport's ``rgb8; jpeg compressed bgr8``; its first word tells a compressed Bayer mosaic from a
    grey image. Colour becomes bgr8 or bgr16, grey mono8 or mono16. A JPEG that has all its rows and lacks its
    end marker alone is whole. An EXIF orientation is not applied: the pixels stay where the camera's
    calibration has them.

    Raises:
        ImageError: ``unknown_encoding`` for compressedDepth and for files of another kind, ``undecodable``
            where the file is truncated or broken, ``bad_size`` before anything is decoded.
    """
    if "compresseddepth" in format.lower():
        raise ImageError(
            "unknown_encoding",
            f"The compressed image's format {format!r} is a depth image's; it must be a JPEG, PNG or WebP.",
        )
    raw = bytes(data)
    header = read_header(raw)
    if header is None:
        promised = any(kind in format.lower() for kind in ("jpeg", "jpg", "png", "webp"))
        raise ImageError(
            "undecodable" if promised else "unknown_encoding",
            f"The compressed image of format {format!r} starts with {raw[:4].hex(' ') or 'nothing'}; "
            "it must be a whole JPEG, PNG or WebP file.",
        )
    check_size(f"The {header.kind}", header.width, header.height)
    mode = cv2.IMREAD_GRAYSCALE if header.grey else cv2.IMREAD_COLOR
    if header.bits == 16:
        mode |= cv2.IMREAD_ANYDEPTH
    pixels = decode_file(raw, header, mode | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels.shape[:2] != (header.height, header.width):
        raise _broken(header)
    deep = pixels.dtype == np.uint16
    pixel_format = _grey_format(format, deep) if header.grey else "bgr16" if deep else "bgr8"
    return Frame((pixels,), pixel_format, header.width, header.height, stamp_ns, frame_id)


def decode_file(data: bytes, header: Header, mode: int) -> npt.NDArray[Any]:
    """Decodes a file whose header is read.

    Args:
        data: The file.
        header: What `read_header` gave for it.
        mode: OpenCV's ``IMREAD_`` flags.

    Raises:
        ImageError: ``undecodable`` where it is broken inside, or rows are missing at its end.
    """
    if header.ended:
        return _decoded(data, header, mode)
    # Without an end marker, what follows the last row may not matter.
    try:
        pixels, *others = (_decoded(file, header, mode) for file in endings(data, header.blocks))
    except ImageError:
        raise ImageError("undecodable", truncated_sentence(data)) from None
    if not all(np.array_equal(pixels, other) for other in others):
        raise ImageError("undecodable", truncated_sentence(data))
    return pixels


def _decoded(data: bytes, header: Header, mode: int) -> npt.NDArray[Any]:
    try:
        pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error:
        pixels = None
    # The stubs promise an array, but a broken file gives None.
    if pixels is None:
        raise _broken(header)
    return pixels


def _broken(header: Header) -> ImageError:
    return ImageError(
        "undecodable",
        f"The {header.kind} of {header.width}x{header.height} px is broken inside and does not decode; "
        f"it must be a valid {header.kind}.",
    )


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Compresses labels (H, W) or RGB (H, W, 3), uint8, without loss.

    Level 1 with run lengths: label images are flat, so it is the fastest and the smallest setting for them.
    """
    return _encode(
        ".png",
        image,
        [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE],
    )


def encode_jpeg(rgb: npt.NDArray[np.uint8], quality: int = 90) -> bytes:
    """Compresses RGB (H, W, 3), uint8, as a JPEG of ``quality`` 1 to 100."""
    return _encode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(extension: str, image: npt.NDArray[np.uint8], options: list[int]) -> bytes:
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return cv2.imencode(extension, pixels, options)[1].tobytes()


def is_matrix_type(encoding: str) -> bool:
    """Whether an encoding is a type of OpenCV's, as 32FC1, that says nothing of colours."""
    return _MATRIX_TYPE.fullmatch(encoding) is not None


def _unknown(encoding: str) -> str:
    if encoding in ("32FC1", "64FC1"):
        return (
            f"The image encoding {encoding!r} is that of a depth image, with distances for colours; "
            "the camera's own image must be given."
        )
    return f"The image encoding {encoding!r} is not known; known are {', '.join(ENCODINGS)}."


def _grey_format(format: str, deep: bool) -> str:
    # image_transport compresses a Bayer mosaic as one grey channel and says so in the first word only.
    bits = "16" if deep else "8"
    source = re.sub("(8|16)$", bits, format.partition(";")[0].strip())
    return source if source.startswith("bayer_") and source in _LAYOUTS else f"mono{bits}"


def check_size(what: str, width: int, height: int, smallest_px: int = MIN_SIDE_PX) -> None:
    """Refuses an image, named by `what`, of which a side [px] is out of range.

    Raises:
        ImageError: ``bad_size``.
    """
    if not all(smallest_px <= side <= MAX_SIDE_PX for side in (width, height)):
        raise ImageError(
            "bad_size", f"{what} is {width}x{height} px; each side must be {smallest_px} to {MAX_SIDE_PX} px."
        )


def _check_even(encoding: str, pixel_format: str, width: int, height: int) -> None:
    # Half a chroma sample is laid out differently by every driver, where it is laid out at all.
    if pixel_format in _EVEN_WIDTH and width % 2:
        raise ImageError(
            "bad_size",
            f"The {encoding} image is {width} px wide; its width must be even, as two px share a chroma.",
        )
    if pixel_format in _EVEN_HEIGHT and height % 2:
        raise ImageError(
            "bad_size",
            f"The {encoding} image is {height} px high; its height must be even, as two rows share a chroma.",
        )


def _views(layout: tuple[_Plane, ...], width: int, height: int, step: int) -> list[_View]:
    views = []
    start = 0
    for plane in layout:
        rows, columns = height // plane.shrink, width // plane.shrink
        row_step, pixel_bytes = step * plane.step_factor, plane.channels * plane.sample_bytes
        shape: tuple[int, ...] = (rows, columns)
        strides: tuple[int, ...] = (row_step, pixel_bytes)
        if plane.channels > 1:
            shape, strides = (*shape, plane.channels), (*strides, plane.sample_bytes)
        end = start + (rows - 1) * row_step + columns * pixel_bytes
        views.append(_View(start, end, shape, strides, plane.sample_bytes))
        start += rows * row_step
    return views
