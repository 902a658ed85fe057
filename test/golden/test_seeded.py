"""Each network and variant, and its deploy graph, against outputs that were recorded before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from support.seeded import HEIGHT, OUTPUTS, VARIANTS, WIDTH, kept_logits, seeded_network, variant_id

from rt_segmentation.inference.deploy import deploy


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(OUTPUTS) as file:
        return dict(file)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for roundings, which may turn a choice of max pooling here and there, and a few pixels."""
    assert found.shape == expected.shape
    errors, scale = np.abs(found - expected), np.abs(expected).mean()
    assert errors.mean() < 1e-4 * scale
    assert (errors > 1e-3 * scale).mean() < 1e-3


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant_id(*variant))
def test_outputs_are_those_recorded(
    variant: tuple[str, dict[str, Any]], recorded: dict[str, np.ndarray]
) -> None:
    network = seeded_network(*variant)
    expected = recorded[variant_id(*variant)]
    # No class whose logits are the same everywhere: such an output would show no change.
    assert expected.std((1, 2)).min() > 1e-3 * np.abs(expected).mean()
    assert_close(kept_logits(network), expected)
    assert_close(kept_logits(deploy(network, HEIGHT, WIDTH)), expected)


def test_nothing_is_recorded_of_networks_that_are_gone(recorded: dict[str, np.ndarray]) -> None:
    assert list(recorded) == [variant_id(*variant) for variant in VARIANTS]
