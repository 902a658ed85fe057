"""Frames, what PyTorch on the CPU makes of them, and a folder for results."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.imaging.render import overlay
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import find_model

WIDTH, HEIGHT, BATCH = 640, 360, 8

# The whole run ends before eight minutes are over; another one finds the engines that were built.
STARTED_S = time.monotonic()
LIMIT_S = 460.0

Check = Callable[[Any, str, int], None]


@pytest.fixture
def seconds_left() -> float:
    """Of the run; the test is skipped where there are too few."""
    left = LIMIT_S - (time.monotonic() - STARTED_S)
    if left < 40:
        pytest.skip("eight minutes are nearly over; the next run finds the engines that were built")
    return left


@pytest.fixture(scope="session")
def out() -> Path:
    """`RT_SEG_GPU_OUT`, or output/gpu: pictures, JSON and the benchmark's pages."""
    folder = Path(os.environ.get("RT_SEG_GPU_OUT", "output/gpu"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Streets, uint8 (BATCH, HEIGHT, WIDTH, 3) RGB."""
    return np.stack([StreetScene(seed, WIDTH, HEIGHT).render(1.0)[0] for seed in range(BATCH)])


@pytest.fixture(scope="session")
def on_cpu(frames: np.ndarray) -> Callable[[str], tuple[np.ndarray, np.ndarray]]:
    """Labels and top probability [0, 1] that a model's network gives in float32 on the CPU."""
    import torch

    from rt_segmentation.inference.network import load_network

    @cache
    def segment(model: str) -> tuple[np.ndarray, np.ndarray]:
        manifest = find_model(model)
        network = load_network(manifest)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (manifest.mean, manifest.std))
        with torch.inference_mode():
            pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
            top, labels = network((pixels - mean) / std).softmax(1).max(1)
        return labels.numpy().astype(np.uint8), top.numpy()

    return segment


class Results:
    """What was found: numbers by engine, and a picture of each."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.pictures: dict[str, list[np.ndarray]] = {}

    def add(self, row: dict[str, Any], picture: np.ndarray) -> None:
        """Keep a row, and its picture with the row's words on it."""
        self.rows.append(row)
        small = cv2.cvtColor(cv2.resize(picture, (WIDTH // 2, HEIGHT // 2)), cv2.COLOR_RGB2BGR)
        words = f"{row['engine']} {row['precision']} {row['labels_equal']:.2%}"
        cv2.putText(small, words, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        self.pictures.setdefault(row["model"], []).append(small)


@pytest.fixture(scope="session")
def results(out: Path) -> Iterator[Results]:
    """Written when the run ends, whatever fails: parity.json, and a picture a model."""
    import torch

    found = Results()
    yield found
    content = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "parity": found.rows}
    (out / "parity.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for model, pictures in found.pictures.items():
        cv2.imwrite(str(out / f"{model}.png"), np.vstack(pictures))


@pytest.fixture
def check(
    frames: np.ndarray, on_cpu: Callable[[str], tuple[np.ndarray, np.ndarray]], results: Results
) -> Check:
    """Compare an engine with the CPU, at one batch size, with and without confidence."""

    def compare(engine: Any, model: str, batch: int) -> None:
        expected, top = on_cpu(model)
        images = frames[:batch]
        labels, confidence = engine.infer(images, True)
        share = float((labels == expected[:batch]).mean())
        away = float(np.abs(confidence / 255 - top[:batch]).mean())
        row = {"model": model, "engine": engine.name, "precision": engine.precision, "device": engine.device}
        picture = overlay(frames[0], labels[0], find_model(model).labels().palette())
        results.add({**row, "batch": batch, "labels_equal": share, "confidence_away": away}, picture)
        assert share >= Gate().threshold(engine.precision)
        assert away < 0.02 or engine.precision == "int8"
        kept = labels.copy()
        others = np.ascontiguousarray(frames[BATCH - batch :][::-1])
        alone, _ = engine.infer(others, False)
        again, _ = engine.infer(others, True)
        np.testing.assert_array_equal(alone, again)
        np.testing.assert_array_equal(engine.infer(images, True)[0], kept)
        np.testing.assert_array_equal(labels, kept)

    return compare
