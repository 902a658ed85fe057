"""The parity gate: its frames, its thresholds, and the verdicts that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from rt_segmentation.files import spread
from rt_segmentation.inference import cache
from rt_segmentation.inference.cache import CacheKey
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.engines.gate import pass_gate
from rt_segmentation.inference.parity import MAX_FRAMES, Gate, ParityError, agreement, parity_frames

KEY = CacheKey("openvino", {"model": "toy"}, {"code": "a"})


@pytest.fixture()
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for gray in range(20):
        cv2.imwrite(str(folder / f"{gray:02}.png"), np.full((48, 64, 3), gray * 10, np.uint8))
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.mark.parametrize(("height", "width"), [(120, 160), (32, 40)])
def test_street_frames_differ_and_are_always_the_same(height: int, width: int) -> None:
    frames = parity_frames(height, width)
    assert frames.shape == (2, height, width, 3) and frames.dtype == np.uint8
    assert (frames[0] != frames[1]).mean() > 0.5
    np.testing.assert_array_equal(frames, parity_frames(height, width))


def test_own_frames_come_after_the_streets(images: Path) -> None:
    frames = parity_frames(60, 80, Gate(frames=images))
    assert frames.shape == (2 + MAX_FRAMES, 60, 80, 3)
    np.testing.assert_array_equal(frames[:2], parity_frames(60, 80))
    grays = frames[2:, 0, 0, 0].tolist()
    assert grays == sorted(grays) and grays[0] == 0 and grays[-1] >= 170


def test_own_frames_are_known_by_their_content(images: Path) -> None:
    before = Gate(frames=images).frames_digest()
    assert before == Gate(frames=images, int8=0.5).frames_digest() != Gate().frames_digest()
    cv2.imwrite(str(images / "00.png"), np.full((48, 64, 3), 99, np.uint8))
    assert Gate(frames=images).frames_digest() != before


def test_a_folder_that_cannot_be_used_is_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=r"folder .*nowhere does not exist"):
        Gate(frames=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParityError, match=r"folder .*empty has no images \(\.bmp, .*\.png"):
        Gate(frames=tmp_path / "empty")
    (images / "00.png").write_bytes(b"no image")
    with pytest.raises(ParityError, match=r"00\.png is not an image"):
        parity_frames(60, 80, Gate(frames=images))


def test_spread_keeps_the_order_and_the_count() -> None:
    assert spread(range(5), 8) == [0, 1, 2, 3, 4]
    assert spread(range(100), 4) == [0, 25, 50, 75]


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
    [
        ("fp32", 0.995, True),
        ("fp32", 0.9949, False),
        ("bf16", 0.99, True),
        ("fp16", 0.9899, False),
        ("int8", 0.97, True),
        ("int8", 0.9699, False),
    ],
)
def test_default_thresholds(precision: str, share: float, allowed: bool) -> None:
    problem = Gate().refusal("openvino", precision, share)
    assert (problem is None) == allowed
    if problem:
        assert "'openvino'" in problem and precision in problem
        assert f"{share:.2%}" in problem and "is needed" in problem


class Measured:
    """An engine with an agreement, which counts how often that is measured."""

    def __init__(self, agreement: float) -> None:
        self.agreement = agreement
        self.times = 0

    def __call__(self) -> float:
        self.times += 1
        return self.agreement


@pytest.fixture()
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield


def test_another_threshold_is_judged_without_measuring_again(empty_cache: None) -> None:
    engine = Measured(0.96)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"96\.00% .* and 97\.0% is needed"):
            pass_gate(KEY, "int8", Gate(), engine)
    pass_gate(KEY, "int8", Gate(int8=0.95), engine)
    assert engine.times == 1
    (entry,) = cache.entries()
    assert entry.data == {"agreement": 0.96, "threshold": 0.95, "passed": True}


@pytest.mark.parametrize("changes", [{"threshold": None}, {"agreement": "much"}, {"agreement": 99.8}])
def test_a_damaged_verdict_is_measured_again(empty_cache: None, changes: dict[str, object]) -> None:
    engine = Measured(0.98)
    pass_gate(KEY, "int8", Gate(), engine)
    (entry,) = cache.entries()
    cache.store(cache.CacheKey(**entry.key), {}, {**entry.data, **changes})
    for _ in range(2):
        pass_gate(KEY, "int8", Gate(), engine)
    assert engine.times == 2 and cache.entries()[0].data == entry.data


def test_other_frames_are_measured(empty_cache: None, images: Path) -> None:
    engine = Measured(0.98)
    pass_gate(KEY, "int8", Gate(), engine)
    engine.agreement = 0.5
    with pytest.raises(EngineError, match=r"50\.00% of the pixels of two street frames and 8 of .*images"):
        pass_gate(KEY, "int8", Gate(frames=images), engine)
    pass_gate(KEY, "int8", Gate(), engine)
    assert engine.times == 2
