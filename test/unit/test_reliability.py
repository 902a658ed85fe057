"""Calibration of the confidence: its error, and the temperature that lowers it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rt_segmentation.evaluation.reliability import Reliability, fit_temperature  # noqa: E402


def error_written_out(confidence: np.ndarray, right: np.ndarray) -> float:
    """The expected calibration error as its definition reads."""
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_error_is_the_definitions() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.integers(1, 256, (40, 50), np.uint8)
    truth = rng.integers(0, 5, (40, 50), np.uint8)
    predicted = np.where(rng.random((40, 50)) < 0.7, truth, (truth + 1) % 5).astype(np.uint8)
    truth[:5] = 255
    reliability = Reliability()
    reliability.update(confidence[:20], predicted[:20], truth[:20])
    reliability.update(confidence[20:], predicted[20:], truth[20:])
    counted = truth != 255
    expected = error_written_out(confidence[counted] / 255, (predicted == truth)[counted])
    assert reliability.error() == pytest.approx(expected, abs=1e-12)


def test_error_of_nothing_and_of_another_shape() -> None:
    assert np.isnan(Reliability().error())
    with pytest.raises(ValueError, match="one shape"):
        Reliability().update(
            np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((4, 2), np.uint8)
        )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_the_temperature_that_made_the_answers_is_found(temperature: float) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (60_000, 4)).astype(np.float32)
    chances = torch.softmax(torch.from_numpy(logits) / temperature, 1)
    truth = torch.multinomial(chances, 1, generator=torch.Generator().manual_seed(1))[:, 0]
    assert fit_temperature(logits, truth.numpy().astype(np.uint8)) == pytest.approx(temperature, rel=0.03)


def test_a_temperature_needs_pixels() -> None:
    with pytest.raises(ValueError, match="no labelled pixel"):
        fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.uint8))
