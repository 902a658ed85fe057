"""A stand-in for the bench of a search: nothing real is timed."""

from __future__ import annotations

import random
from collections.abc import Callable

from rt_segmentation.benchmark.variants import Group, OutOfTime, Variant, VariantError

INT8 = ("openvino", "int8")
FAMILIES = ("jit_avx512", "brgconv_avx512", "jit_avx2")


class FakeBench:
    """Times by a formula, with noise; each call takes 0.1 s of its time."""

    def __init__(
        self, ms: Callable[[Variant], float], seconds: float = 1e6, noise: float = 0.05, seed: int = 0
    ) -> None:
        self._ms, self._left, self._noise = ms, seconds, noise
        self._random = random.Random(seed)
        self.refused: Callable[[Variant], bool] = lambda variant: False
        self.made: list[Variant] = []

    def end(self) -> None:
        """Nothing is left."""
        self._left = 0.0

    def _spend(self) -> None:
        if self._left > 0:
            self._left -= 0.1
        if self._left <= 0:
            raise OutOfTime("the time is over")

    def remaining_s(self) -> float:
        return self._left

    def make(self, variant: Variant) -> tuple[str, ...]:
        self._spend()
        if variant.options.isa == "BROKEN":
            raise VariantError("no such instructions")
        self.made.append(variant)
        every = dict(variant.options.kernels)
        families = [every.get(name, every.get("*", "brgconv_avx512")) for name in ("big", "small")]
        return tuple(families)

    def time(self, variant: Variant, frames: int) -> list[float]:
        self._spend()
        # As `time_frames`: waves of concurrent ones are full.
        frames += -frames % variant.parallel
        return [self._ms(variant) * self._random.lognormvariate(0, self._noise) for _ in range(frames)]

    def groups(self, variant: Variant) -> list[Group]:
        return [Group("big", 0.7, ("brgconv_avx512",)), Group("small", 0.01, ("brgconv_avx512",))]

    def judge(self, variant: Variant) -> None:
        if self.refused(variant):
            raise VariantError("other labels")

    def drop(self, variant: Variant) -> None:
        """Nothing to let go."""


def by_options(variant: Variant) -> float:
    kernels = dict(variant.options.kernels)
    ms = 20.0
    ms *= {"jit_avx512": 0.9, "jit_avx2": 1.6}.get(kernels.get("*", ""), 1.0)
    ms *= {"jit_avx2": 0.8}.get(kernels.get("big", ""), 1.0)
    ms *= 1.3 if variant.options.threads == 1 else 1.0
    ms *= 0.9 if variant.options.bytes_between else 1.0
    return ms * (0.7 if variant.parallel == 2 else 1.0)
