"""Result buffers that the caller owns and passes in again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def check_out(out: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> None:
    """Refuses a buffer OpenCV could not write into; it would silently allocate another and leave this one.

    Raises:
        ValueError: ``out`` is not uint8, C-contiguous, writeable and of ``shape``.
    """
    if out is None or (out.shape == shape and out.dtype == np.uint8 and out.flags.carray):
        return
    raise ValueError(
        f"out is {out.dtype} of shape {out.shape}{'' if out.flags.carray else ', strided or read-only'}; "
        f"it must be writeable, contiguous uint8 of shape {shape}."
    )
