"""The parity gate."""

from __future__ import annotations

import numpy as np
import pytest

from rt_segmentation.inference.parity import agreement, parity_frames, refusal


@pytest.mark.parametrize(("height", "width"), [(120, 160), (32, 40)])
def test_frames_differ_and_are_always_the_same(height: int, width: int) -> None:
    frames = parity_frames(height, width)
    assert frames.shape == (2, height, width, 3) and frames.dtype == np.uint8
    assert (frames[0] != frames[1]).mean() > 0.5
    np.testing.assert_array_equal(frames, parity_frames(height, width))


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_agreement_counts_every_frame_at_any_batch(batch: int) -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[1] = 1
    reference = frames[..., 0].copy()
    seen = []

    def segment(images: np.ndarray) -> np.ndarray:
        assert images.shape == (batch, 4, 4, 3) and images.flags.c_contiguous
        seen.extend(images[:, 0, 0, 0].tolist())
        return images[..., 0]

    assert agreement(segment, frames, reference, batch) == 1
    assert set(seen) == {0, 1}


def test_agreement_is_the_share_of_equal_labels() -> None:
    frames = np.zeros((2, 10, 10, 3), np.uint8)
    reference = np.zeros((2, 10, 10), np.uint8)
    reference[1, 0, :5] = 1
    assert agreement(lambda images: images[..., 0], frames, reference, 1) == pytest.approx(0.975)


@pytest.mark.parametrize(
    ("precision", "share", "allowed"),
    [("fp32", 0.995, True), ("fp32", 0.9949, False), ("bf16", 0.99, True), ("fp16", 0.9899, False)],
)
def test_thresholds(precision: str, share: float, allowed: bool) -> None:
    problem = refusal("openvino", precision, share)
    assert (problem is None) == allowed
    if problem:
        assert "'openvino'" in problem and precision in problem
        assert f"{share:.2%}" in problem and "is needed" in problem
