"""Label Studio's run lengths of brush masks: bits, four channels a pixel.

32 bits say how many values there are, 5 the bits of a value less 1, four times 4 the bits of the lengths of
each kind of run, less 1. A run is a bit (1: one value repeated, 0: values one by one), 2 bits for the kind
of its length, the length less 1, and the value or values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHANNELS = 4
LENGTH_BITS = (3, 4, 8, 16)


def encode(mask: np.ndarray) -> list[int]:
    """Bytes as numbers from 0 to 255 for a mask, bool (H, W)."""
    flat = mask.ravel()
    ends = np.concatenate([np.flatnonzero(np.diff(flat.astype(np.int8))) + 1, [flat.size]])
    starts = np.concatenate([[0], ends[:-1]])
    parts = [f"{flat.size * CHANNELS:032b}", f"{7:05b}", *(f"{bits - 1:04b}" for bits in LENGTH_BITS)]
    for start, length in zip(starts.tolist(), (ends - starts).tolist()):
        value = "1" * 8 if flat[start] else "0" * 8
        left = length * CHANNELS
        while left:
            run = min(left, 1 << LENGTH_BITS[-1])
            kind = next(i for i, bits in enumerate(LENGTH_BITS) if run <= 1 << bits)
            parts.append(f"1{kind:02b}{run - 1:0{LENGTH_BITS[kind]}b}{value}")
            left -= run
    bits = "".join(parts)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def decode(rle: Sequence[int], width: int, height: int) -> np.ndarray:
    """The mask of what `encode` gives, or Label Studio; bool (height, width), where its alpha is not 0.

    Raises:
        ValueError: they are no bytes, end early, or are of an image of another size.
    """
    try:
        data = bytes(rle)
    except (TypeError, ValueError) as error:
        raise ValueError("its rle is not a list of bytes") from error
    bits = bin(int.from_bytes(b"\x01" + data, "big"))[3:]
    position = 0

    def take(count: int) -> int:
        nonlocal position
        position += count
        if position > len(bits):
            raise ValueError("its rle ends early")
        return int(bits[position - count : position], 2)

    total, value_bits = take(32), take(5) + 1
    if total != width * height * CHANNELS:
        raise ValueError(
            f"its rle has {total} values, and an image of {width}x{height} has {width * height * CHANNELS}"
        )
    length_bits = [take(4) + 1 for _ in LENGTH_BITS]
    values = np.zeros(total, np.uint32)
    done = 0
    while done < total:
        is_run = take(1)
        end = done + 1 + take(length_bits[take(2)])
        if end > total:
            raise ValueError("its rle has more values than it says")
        if is_run:
            values[done:end] = take(value_bits)
        else:
            values[done:end] = [take(value_bits) for _ in range(end - done)]
        done = end
    return np.asarray(values.reshape(height, width, CHANNELS)[..., -1] > 0)
