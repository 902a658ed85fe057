"""Ranges for int8."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .enums import CalibrationAlgoType
from .foundations import _aten, _Invalid, _need
from .program import _Program
from .running import _tensor_at

if TYPE_CHECKING:
    from .building import IBuilderConfig


def _calibrate(plan: dict[str, Any], config: IBuilderConfig) -> dict[int, float]:
    """Scales of all float tensors from the calibrator's batches."""
    calibrator: Any = config.int8_calibrator
    _need(calibrator is not None, "INT8 without calibrator, ranges or Q/DQ layers")
    algorithm = calibrator.get_algorithm()
    if calibrator.read_calibration_cache() is not None:
        raise _Invalid("a calibration cache is not in this stand-in")
    names = [name for name, _, _, _ in plan["inputs"]]
    batches = []
    while True:
        try:
            addresses = calibrator.get_batch(names)
        except Exception as error:  # as the bindings do
            print(f"[ERROR] Exception caught in get_batch(): {error}", file=sys.stderr)
            addresses = None
        if addresses is None or len(addresses) == 0:
            break
        batches.append(
            {
                name: _aten.clone(_tensor_at(address, shape, dtype))
                for (name, _, shape, dtype), address in zip(plan["inputs"], addresses)
            }
        )
    _need(batches, "Calibration failure: no batches")
    with torch.inference_mode():
        program = _Program(plan, "fp32")
        largest: dict[int, float] = {}

        def look(number: int, value: torch.Tensor) -> None:
            top = float(_aten.abs(value).max())
            _need(top == top, "Calibration failure: not a number")
            largest[number] = max(largest.get(number, 0.0), top)

        for batch in batches:
            program.run(batch, look)
        if algorithm == CalibrationAlgoType.MINMAX_CALIBRATION:
            return {number: max(top, 1e-12) / 127 for number, top in largest.items()}
        histograms: dict[int, np.ndarray] = {}

        def count(number: int, value: torch.Tensor) -> None:
            top = largest[number]
            if top:
                found = torch.histc(_aten.reshape(_aten.abs(value), [-1]), 2048, 0, top).numpy()
                histograms[number] = histograms.get(number, 0) + found

        for batch in batches:
            program.run(batch, count)
    calibrator.write_calibration_cache(b"")
    return {
        number: max(top, 1e-12) * (_entropy_cut(histograms[number]) / 2048 if top else 1) / 127
        for number, top in largest.items()
    }


def _entropy_cut(histogram: np.ndarray) -> int:
    """How many of 2048 bins are kept, by least Kullback-Leibler divergence (Migacz, GTC 2017)."""
    histogram = histogram.astype(np.float64).copy()
    histogram[0] = 0 if histogram[1:].any() else histogram[0]
    best, best_divergence = 2048, np.inf
    for cut in range(128, 2049, 32):
        p = histogram[:cut].copy()
        p[-1] += histogram[cut:].sum()
        nonzero = histogram[:cut] > 0
        groups = np.arange(cut) * 128 // cut
        total = np.bincount(groups, histogram[:cut], 128)
        used = np.bincount(groups, nonzero, 128)
        q = np.where(nonzero, (total / np.maximum(used, 1))[groups], 0.0)
        if not p.sum() or not q.sum():
            continue
        p, q = p / p.sum(), q / q.sum()
        mask = p > 0
        divergence = float(np.sum(p[mask] * np.log(p[mask] / np.maximum(q[mask], 1e-12))))
        if divergence < best_divergence:
            best, best_divergence = cut, divergence
    return best


class IInt8Calibrator:
    """Gives batches; subclasses say from where."""

    def __init__(self) -> None:
        pass

    def get_batch_size(self) -> int:
        return -1

    def get_algorithm(self) -> Any:
        return CalibrationAlgoType.LEGACY_CALIBRATION

    def get_batch(self, names: list[str]) -> list[int]:
        return []

    def read_calibration_cache(self) -> Any:
        return None

    def write_calibration_cache(self, cache: Any) -> None:
        return None


class IInt8EntropyCalibrator2(IInt8Calibrator):
    """The calibrator that NVIDIA recommends."""

    def get_algorithm(self) -> Any:
        return CalibrationAlgoType.ENTROPY_CALIBRATION_2
