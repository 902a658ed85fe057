"""What a JPEG file says of itself: its size, and whether all of it is there.

OpenCV fills the missing part of a truncated JPEG with grey and says nothing. A file that ends without its end
marker may still have all its rows: some cameras and recorders leave the marker off.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rt_segmentation.imaging.errors import ImageError

_END = b"\xff\xd9"
_SOS_MARKER = b"\xff\xda"
_FOLLOWING = b"\xb6\x5a\x6d\x93"
# In entropy-coded data 0xFF is followed by 0x00 or a restart marker (D0 to D7); all else is a real marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD
_ALONE = (0x01, 0xD8)  # TEM and SOI carry no length
# DHT, JPG and DAC sit in the same range.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COEFFICIENTS = 64
_MOST_BLOCK_BYTES = _COEFFICIENTS * (16 + 11) // 8
"""A block's, if each coefficient has the longest code and the most bits after it."""
_MOST_BYTES = 300_000_000
"""Of all blocks: enough for 7680x7680 px in 4:2:0. A header may declare more than there is memory for."""


@dataclass
class Jpeg:
    """A JPEG's declaration.

    Attributes:
        width: [px]
        height: [px]
        channels: 1 is grey.
        blocks: 8x8 blocks that are coded, those of the padding too.
        ended: Whether the end marker is there. Without it the last scan has begun at least; `endings` tells
            whether it is all there.
    """

    width: int
    height: int
    channels: int
    blocks: int
    ended: bool


def read_jpeg(data: bytes) -> Jpeg:
    """Walks a JPEG's segments.

    Raises:
        ImageError: ``undecodable`` where rows are surely missing, or there is no size.
        struct.error: A header is cut.
    """
    ended = False
    segments: list[tuple[int, int, int]] = []
    position = 2
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            break
        marker = data[found.start() + 1]
        position = found.end()
        if marker == _EOI:
            ended = True
            break
        if marker in _ALONE:
            continue
        length = max(2, struct.unpack_from(">H", data, position)[0])
        segments.append((marker, position + 2, position + length))
        position += length
    start = next((begin for marker, begin, _ in segments if marker in _FRAME_HEADERS), None)
    if not ended and (start is None or position > len(data) or _lacks_data(data, segments, start)):
        raise ImageError("undecodable", truncated_sentence(data))
    if start is None:
        raise ImageError(
            "undecodable", "The JPEG has no frame header (SOF) and so no size; it must have one."
        )
    height, width, components = _frame(data, start)
    sampling = [(h, v) for _, h, v in components]
    blocks = _units(width, height, sampling) * sum(h * v for h, v in sampling)
    return Jpeg(width, height, len(components), blocks, ended)


def _frame(data: bytes, begin: int) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Height and width [px], and each component's number and its blocks across and down a unit (MCU).

    Args:
        data: The file.
        begin: Where the frame header's body begins.
    """
    height, width, channels = struct.unpack_from(">HHB", data, begin + 1)
    components = []
    for i in range(channels):
        number, factors = struct.unpack_from(">BB", data, begin + 6 + 3 * i)
        components.append((number, factors >> 4, factors & 15))
    return height, width, components


def _lacks_data(data: bytes, segments: list[tuple[int, int, int]], frame: int) -> bool:
    """Whether a JPEG without its end marker lacks a scan, or restart markers of the last one.

    Args:
        data: The file.
        segments: Marker, first byte after the length, and end of each.
        frame: Where the frame header's body begins.
    """
    height, width, declared = _frame(data, frame)
    sampling = {number: (h, v) for number, h, v in declared}
    # Of each component, the coefficients that no scan has yet given to their last bit.
    left = {number: set(range(_COEFFICIENTS)) for number in sampling}
    interval, scan, components = 0, len(data), list[int]()
    for marker, begin, end in segments:
        if marker == _DRI:
            (interval,) = struct.unpack_from(">H", data, begin)
        elif marker == _SOS:
            (count,) = struct.unpack_from(">B", data, begin)
            components = [struct.unpack_from(">B", data, begin + 1 + 2 * i)[0] for i in range(count)]
            first, last, approximation = struct.unpack_from(">BBB", data, begin + 1 + 2 * count)
            if approximation & 15 == 0:
                for number in components:
                    left.get(number, set()).difference_update(range(first, last + 1))
            scan = end
    if any(left.values()):
        return True
    expected = -(-_coded_units(width, height, sampling, components) // interval) - 1 if interval else 0
    return len(_RESTART.findall(data, scan)) < expected


def _coded_units(width: int, height: int, sampling: dict[int, tuple[int, int]], components: list[int]) -> int:
    """How many minimum coded units (MCU) a scan has."""
    if len(components) > 1:
        return _units(width, height, sampling.values())
    # A scan of one component is in its own blocks, whatever its sampling.
    across, down = _unit(sampling.values())
    h, v = sampling.get(components[0], (across, down))
    return -(-width * h // (across * 8)) * -(-height * v // (down * 8))


def _units(width: int, height: int, sampling: Collection[tuple[int, int]]) -> int:
    """How many minimum coded units (MCU) of all components an image has."""
    across, down = _unit(sampling)
    return -(-width // (8 * across)) * -(-height // (8 * down))


def _unit(sampling: Collection[tuple[int, int]]) -> tuple[int, int]:
    """Blocks of a unit across and down."""
    across = max((h for h, _ in sampling), default=1)
    down = max((v for _, v in sampling), default=1)
    return across or 1, down or 1


def endings(data: bytes, blocks: int) -> Iterator[bytes]:
    """A JPEG without its end marker, ended in different ways: all decode alike if no row is missing.

    Where bits are missing, the decoder takes those of the bytes that follow; otherwise it does not look at
    them. Of a single scan it needs no end marker, and says nothing of such bytes; several scans it collects
    up to the marker, and libjpeg then writes a line about the bytes before it.

    Args:
        data: The file.
        blocks: As `read_jpeg` counts them.
    """
    # Half a marker would make another one of the byte that follows.
    cut = data.rstrip(b"\xff")
    if data.count(_SOS_MARKER) > 1:
        yield cut + _END
        for following in (_FOLLOWING, _FOLLOWING[::-1]):
            yield cut + following * 64 + _END
    else:
        # Enough for all blocks: OpenCV up to 4.10 leaves a row without bits as the memory was.
        needed = min(blocks * _MOST_BLOCK_BYTES, _MOST_BYTES)
        number = -(-needed // len(_FOLLOWING))
        for following in (_FOLLOWING, _FOLLOWING[::-1]):
            yield cut + following * number


def truncated_sentence(data: bytes) -> str:
    """What is wrong with a JPEG that ends early."""
    return (
        f"The JPEG is truncated: its {len(data)} bytes hold no end-of-image marker (FF D9) and not all of its"
        " rows; it must be a whole file."
    )
