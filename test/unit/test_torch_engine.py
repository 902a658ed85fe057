"""The engine torch: the deploy graph's labels are those of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
import torch

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.inference import cache
from rt_segmentation.inference.engines import EngineError, EngineUnavailable
from rt_segmentation.inference.engines.torch_engine import TorchEngine
from rt_segmentation.inference.network import load_network
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest

HEIGHT, WIDTH = 90, 160


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path))
        yield tmp_path


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.stack([StreetScene(seed, WIDTH, HEIGHT).render(0.0)[0] for seed in (1, 2)])


def test_labels_and_confidence_are_the_networks(small_model: ModelManifest, frames: np.ndarray) -> None:
    with torch.no_grad():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        top, expected = load_network(small_model)(pixels).softmax(1).max(1)
    engine = TorchEngine(small_model, "fp32")
    labels, confidence = engine.infer(frames, True)
    assert confidence is not None and labels.dtype == confidence.dtype == np.uint8
    assert (labels == expected.numpy()).mean() > 0.999
    assert np.abs(confidence - 255 * top.numpy()).mean() < 1
    kept = labels.copy()
    alone, none = engine.infer(frames[::-1].copy(), False)
    assert none is None
    np.testing.assert_array_equal(alone[::-1], kept)
    np.testing.assert_array_equal(labels, kept)


def test_half_precision_passes_the_gate_or_is_refused(small_model: ModelManifest, frames: np.ndarray) -> None:
    TorchEngine(small_model, "bf16", Gate(half=0.5)).prepare(1, HEIGHT, WIDTH)
    (verdict,) = (entry for entry in cache.entries() if entry.key["kind"] == "torch")
    assert verdict.data["passed"] and 0.5 < verdict.data["agreement"] < 1
    with pytest.raises(EngineError, match=r"engine 'torch' in bf16 gives .* 100\.0% is needed"):
        TorchEngine(small_model, "bf16", Gate(half=1.0)).infer(frames, False)


def test_a_gate_that_cannot_be_asked_refuses(
    small_model: ModelManifest, frames: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "street.png"
    cv2.imwrite(str(image), frames[0])
    engine = TorchEngine(small_model, "bf16", Gate(frames=image.parent))
    image.unlink()
    with pytest.raises(
        EngineError, match=r"'torch' in bf16 cannot be made ready for 160x90: .*has no images"
    ):
        engine.infer(frames, False)


def test_a_precision_that_is_not_there_is_refused(small_model: ModelManifest) -> None:
    with pytest.raises(EngineUnavailable, match="engine 'torch' has no precision 'int8'"):
        TorchEngine(small_model, "int8")
