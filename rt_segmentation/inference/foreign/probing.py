"""Runs a graph of somebody else's on noise, to see what it gives and which images it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rt_segmentation.inference.engines.failures import reason
from rt_segmentation.inference.foreign.inspection import Foreign
from rt_segmentation.inference.foreign.original import Run
from rt_segmentation.models import ModelError

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
_SMALLEST_PX = 64


class Prober:
    """Runs a graph on noise, to see what it gives."""

    def __init__(self, foreign: Foreign, run: Run, dtype: np.dtype[Any], layout: str) -> None:
        self._foreign, self._run, self._dtype, self._layout = foreign, run, dtype, layout
        # A batch that is fixed is known; one that is declared free is tried.
        declared = foreign.dims[0]
        if declared not in (None, 1):
            raise ModelError(
                f"input '{foreign.input}' is {shape_text(foreign.dims)}: batches of {declared} images;"
                " export it for one"
            )

    def __call__(self, size: tuple[int, int]) -> Mapping[str, np.ndarray]:
        """All outputs for an image of (width, height) [px].

        Raises:
            ModelError: the graph fails.
        """
        try:
            return self._outputs(size, 1)
        except Exception as error:
            # What native code raises is of many types.
            raise ModelError(
                f"{self._foreign.path} fails for an image of {size[0]}x{size[1]}: {reason(error)}; give"
                " --width and --height of the size that it was exported for"
            ) from error

    def _outputs(self, size: tuple[int, int], batch: int) -> Mapping[str, np.ndarray]:
        width, height = size
        shape = (batch, 3, height, width) if self._layout == "nchw" else (batch, height, width, 3)
        noise = np.random.default_rng(0).random(shape, np.float32)
        return self._run((noise * 255 if self._dtype == np.uint8 else noise).astype(self._dtype))

    def multiple(self, output: str) -> int:
        """Of what the sides must be multiples of; 0 if there is no such number."""
        for multiple in _MULTIPLES:
            odd = _SMALLEST_PX // multiple | 1
            try:
                shapes = [
                    self._outputs((multiple * (odd + 2 * more), multiple * odd), 1)[output].shape
                    for more in (1, 2)
                ]
            except Exception:
                # What native code raises is of many types.
                continue
            # One that ends in a size of its own takes no other.
            if shapes[0] != shapes[1]:
                return multiple
        return 0

    def fixed_batch(self, size: tuple[int, int]) -> bool:
        """Whether it takes one image at a time."""
        if self._foreign.dims[0] == 1:
            return True
        try:
            outputs = self._outputs(size, 2)
        except Exception:
            # What native code raises is of many types.
            return True
        return not any(len(array) == 2 for array in outputs.values())


def shape_text(dims: Sequence[int | None]) -> str:
    """A shape for people; `?` is what is free."""
    return "(" + ", ".join("?" if d is None else str(d) for d in dims) + ")"
