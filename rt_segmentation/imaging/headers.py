"""What a compressed image says of itself, read before any pixel is decoded.

OpenCV fills the missing part of a truncated JPEG with grey and says nothing, and allocates whatever size a
header declares. So the file's own structure is walked first: is it all there, and how large will it be?
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.jpeg import read_jpeg

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY, _PNG_PALETTE = 0, 3
# Three bytes for each of 256 colours.
_LARGEST_PALETTE = 768


@dataclass(frozen=True)
class Header:
    """A complete compressed image's declaration.

    Attributes:
        kind: ``JPEG``, ``PNG`` or ``WebP``.
        width: [px]
        height: [px]
        grey: Whether it holds one channel.
        bits: Of a sample, as stored: 1, 2, 4, 8 or 16.
        palette: Whether its samples are numbers of colours (PNG).
        lossless: Whether its pixels are those that were stored.
        ended: Whether its end marker is there; False for a JPEG that ends without, whose last rows may lack.
        blocks: As of `Jpeg`; 0 of other files.
    """

    kind: str
    width: int
    height: int
    grey: bool
    bits: int = 8
    palette: bool = False
    lossless: bool = True
    ended: bool = True
    blocks: int = 0


def read_header(data: bytes) -> Header | None:
    """Reads the header of a JPEG, PNG or WebP file and checks that the file is complete.

    Returns:
        The header, or None where the bytes start like none of the three.

    Raises:
        ImageError: ``undecodable`` where the file ends early or its structure is broken.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _read_jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _read_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data)
    except struct.error:
        raise ImageError(
            "undecodable",
            f"The compressed image ends inside a header, after {len(data)} bytes; it must be a whole file.",
        ) from None
    return None


def _read_jpeg(data: bytes) -> Header:
    jpeg = read_jpeg(data)
    return Header(
        "JPEG",
        jpeg.width,
        jpeg.height,
        grey=jpeg.channels == 1,
        lossless=False,
        ended=jpeg.ended,
        blocks=jpeg.blocks,
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name of each chunk, and where its content begins and ends; the end may lie behind the data."""
    position = len(_PNG_SIGNATURE)
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, position + 8, position + 8 + length
        position += 12 + length


def _read_png(data: bytes) -> Header:
    header = None
    for name, begin, end in _png_chunks(data):
        if end + 4 > len(data):
            raise ImageError(
                "undecodable",
                f"The PNG is truncated: its chunk {name!r} ends at byte {end + 4} of {len(data)}; "
                "a whole one ends with the chunk IEND.",
            )
        if zlib.crc32(memoryview(data)[begin - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError(
                "undecodable",
                f"The PNG's chunk {name!r} differs from its checksum; it must arrive as it was written.",
            )
        if header is None:
            if name != b"IHDR" or end - begin != 13:
                raise ImageError(
                    "undecodable",
                    f"The PNG starts with the chunk {name!r}; it must start with a 13 byte IHDR.",
                )
            width, height, bits, colour_type = struct.unpack_from(">IIBB", data, begin)
            header = Header(
                "PNG",
                width,
                height,
                grey=colour_type == _PNG_GREY,
                bits=bits,
                palette=colour_type == _PNG_PALETTE,
            )
        if name == b"IEND":
            break
    assert header is not None
    return header


def as_grey_png(data: bytes) -> tuple[bytes, bytes]:
    """A PNG whose grey samples are the numbers of the colours in `data`, and the palette.

    OpenCV gives the colours alone; the rows of both kinds are laid out alike.

    Args:
        data: A PNG with a palette, which `read_header` has read.

    Returns:
        The PNG, and the palette: three bytes, R, G and B, a colour.

    Raises:
        ImageError: ``undecodable`` where its palette is missing or broken.
    """
    parts, palette = [_PNG_SIGNATURE], b""
    for name, begin, end in _png_chunks(data):
        body = data[begin:end]
        if name == b"PLTE":
            palette = body
        elif name == b"IHDR":
            body = body[:9] + bytes([_PNG_GREY]) + body[10:]
        # What else is not of the pixels, as the colours' transparency, may not go with grey.
        if name in (b"IHDR", b"IDAT", b"IEND"):
            parts += [struct.pack(">I", len(body)), name, body, struct.pack(">I", zlib.crc32(name + body))]
        if name == b"IEND":
            break
    if not palette or len(palette) % 3 or len(palette) > _LARGEST_PALETTE:
        raise ImageError(
            "undecodable", f"The PNG's palette has {len(palette)} bytes; it must have three a colour."
        )
    return b"".join(parts), palette


def _read_webp(data: bytes) -> Header:
    size, form = struct.unpack_from("<I4x4s", data, 4)
    if len(data) < size + 8:
        raise ImageError(
            "undecodable",
            f"The WebP is truncated: it declares {size + 8} bytes and {len(data)} are there; all must be.",
        )
    if form == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        width, height = 1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16)
    elif form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif form == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ImageError(
            "undecodable", f"The WebP starts with the chunk {form!r}; it must start with VP8, VP8L or VP8X."
        )
    return Header("WebP", width, height, grey=False, lossless=_webp_is_lossless(data, size + 8))


def _webp_is_lossless(data: bytes, end: int) -> bool:
    """Whether the pixels are in a chunk VP8L; in VP8, or in an animation's frames, they may have changed."""
    position = 12
    while position + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, position)
        if name in (b"VP8L", b"VP8 ", b"ANIM"):
            return bool(name == b"VP8L")
        position += 8 + length + length % 2
    return False
