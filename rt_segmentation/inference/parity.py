"""The parity gate: an engine must label frames as torch in fp32 does, or it is not used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Smallest share of pixels with the reference's label, by precision.
THRESHOLDS = {"fp32": 0.995, "fp16": 0.99, "bf16": 0.99, "int8": 0.97}

# Streets with all classes in view, by seed and time [s].
_STREETS = ((8, 1.0), (9, 4.0))

# The smallest picture that StreetScene draws.
_SMALLEST = (64, 48)


def parity_frames(height: int, width: int) -> np.ndarray:
    """Two street frames, uint8 (2, height, width, 3) RGB."""
    import cv2

    from rt_segmentation.data.synthetic import StreetScene

    drawn = (max(width, _SMALLEST[0]), max(height, _SMALLEST[1]))
    frames = [StreetScene(seed, *drawn).render(time)[0] for seed, time in _STREETS]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def agreement(
    segment: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, reference: np.ndarray, batch: int
) -> float:
    """Share of pixels to which an engine gives the reference's label.

    Args:
        segment: from uint8 (batch, H, W, 3) to labels uint8 (batch, H, W).
        frames: uint8 (M, H, W, 3).
        reference: uint8 (M, H, W).
        batch: what `segment` takes; each frame is seen at one place of a batch at least.
    """
    equal = []
    for start in range(0, max(len(frames), batch), batch):
        chosen = [index % len(frames) for index in range(start, start + batch)]
        equal.append(segment(np.ascontiguousarray(frames[chosen])) == reference[chosen])
    return float(np.mean(equal))


def refusal(engine: str, precision: str, share: float) -> str | None:
    """Say in one sentence why an engine with this agreement is not used; None if it may be."""
    threshold = THRESHOLDS[precision]
    if share >= threshold:
        return None
    return (
        f"engine '{engine}' in {precision} gives {share:.2%} of the pixels of two street frames the label"
        f" that torch in fp32 gives them, and {threshold:.1%} is needed"
    )
