"""A result of a bag evaluation, as rich and as large as asked for, with pictures of streets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.imaging.pictures import write_picture
from rt_segmentation.imaging.render import overlay
from rt_segmentation.labels import LabelSet, load_label_set
from support.streets import street_scene


def make_result(
    folder: Path,
    models: int = 2,
    labels: str = "camvid11",
    bins: int = 100,
    shown: int = 6,
    size: tuple[int, int] = (320, 180),
    truth: bool = True,
) -> dict[str, Any]:
    """The content of evaluation.json, whose pictures are written into the folder.

    Args:
        folder: for the pictures.
        models: how many are compared.
        labels: the label set.
        bins: of time.
        shown: frames with pictures, of each model.
        size: of a picture, width and height [px].
        truth: whether there is ground truth.
    """
    label_set = load_label_set(labels)
    names = ["enet_town", "lednet_camvid", *(f"linknet_variant_{i}" for i in range(models))][:models]
    made = [_model(name, i, label_set, folder, bins, shown, size, truth) for i, name in enumerate(names)]
    return {
        "format": "rt_segmentation bag evaluation 1",
        "partial": False,
        "problems": [],
        "mode": "realtime",
        "rate": 1.0,
        "command": "rt_seg evaluate-bag night.mcap --image-topic /front/image --model "
        + " --model ".join(names),
        "commit": "58f7490",
        "date": "2026-11-21T03:14:15Z",
        "machine": {
            "cpu": "A processor @ 2.60GHz",
            "cores": 2,
            "memory_gb": 23.5,
            "system": "Linux-6.1-x86_64",
        },
        "versions": {
            "rt_segmentation": "0.1.0",
            "python": "3.11.2",
            "numpy": "2.2.6",
            "openvino": "2026.2.0",
        },
        "bags": [
            {
                "path": "/data/runs/night.mcap",
                "start_ns": 1_700_000_000_000_000_000,
                "duration_s": bins * 0.5,
                "frames": bins * 5,
                "frames_span_s": (bins * 5 - 1) / 10,
                "image_topic": "/front/image",
                "label_topic": "/front/label" if truth else None,
                "lost": None,
                "problem": None,
            }
        ],
        "classes": [{"name": c.name, "color": list(c.color)} for c in label_set.classes],
        "models": made,
        "comparisons": _comparisons(made) if truth else [],
    }


def _model(
    name: str,
    seed: int,
    labels: LabelSet,
    folder: Path,
    bins: int,
    shown: int,
    size: tuple[int, int],
    truth: bool,
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    matrix = ConfusionMatrix(len(labels.classes))
    matrix.counts[:, :-1] = _confusion(rng, len(labels.classes))
    timeline = _timeline(rng, bins, matrix.counts[:, :-1].sum(0), truth)
    latency = rng.lognormal(np.log(21 + 4 * seed), 0.18, bins * 5)
    counts, edges = np.histogram(latency, np.exp(np.arange(2.0, 5.0, 0.05)))
    latency_ms = {
        "min": float(latency.min()),
        "p50": float(np.median(latency)),
        "p95": float(np.percentile(latency, 95)),
        "max": float(latency.max()),
        "mean": float(latency.mean()),
    }
    iou = matrix.class_iou()
    accuracy = {
        "frames": bins * 5,
        "mean_iou": matrix.mean_iou(),
        "interval": [matrix.mean_iou() - 0.031, matrix.mean_iou() + 0.027],
        "class_iou": {c.name: None if np.isnan(iou[c.id]) else float(iou[c.id]) for c in labels.classes},
        "class_average": matrix.class_average(),
        "global_average": matrix.global_average(),
        "confusion": matrix.counts.tolist(),
    }
    received, dropped = (sum(b[key] for b in timeline) for key in ("received", "dropped"))
    return {
        "name": name,
        "network": name.partition("_")[0],
        "engine": "openvino",
        "precision": "bf16",
        "device": "CPU",
        "input_size": [480, 360],
        "received": received,
        "segmented": received - dropped,
        "dropped": {"replaced": dropped},
        "drop_rate": dropped / received,
        "fps": 9.9 - seed,
        "engine_fps": 45.0 - 3 * seed,
        "latency_ms": latency_ms,
        "inference_ms": {key: 0.8 * value for key, value in latency_ms.items()},
        "age_ms": {key: 4.0 * value for key, value in latency_ms.items()},
        "latency_histogram": {"edges_ms": edges.tolist(), "counts": counts.tolist()},
        "accuracy": accuracy if truth else None,
        "class_shares": dict(zip(labels.names, np.mean([b["shares"] for b in timeline], 0).tolist())),
        "mean_confidence": 0.83,
        "temporal_consistency": 0.951,
        "timeline": timeline,
        "shown": [_shown(name, i, seed, folder, size, truth) for i in range(shown)],
    }


def _confusion(rng: np.random.Generator, size: int) -> np.ndarray:
    """Large classes mostly right, small ones mostly wrong; the last class does not occur."""
    pixels = rng.permutation(np.geomspace(1e7, 1e3, size))
    recall = np.clip(np.log10(pixels / 100) / 5, 0.1, 0.97)
    wrong = rng.dirichlet(np.full(size, 0.3), size) * (1 - recall)[:, None]
    counts = (pixels[:, None] * (wrong + np.diag(recall))).astype(np.int64)
    counts[-1] = counts[:, -1] = 0
    return counts


def _timeline(rng: np.random.Generator, bins: int, pixels: np.ndarray, truth: bool) -> list[dict[str, Any]]:
    t = np.arange(bins) * 0.5
    waves = 1 + 0.6 * np.sin(t[:, None] / 7 + rng.uniform(0, 6, len(pixels)))
    shares = waves * pixels**0.6
    shares /= shares.sum(1, keepdims=True)
    p50 = 21 + 4 * np.sin(t / 9) + rng.normal(0, 0.7, bins)
    dropped = (rng.random(bins) < 0.08).astype(int) * rng.integers(1, 4, bins)
    quality = np.clip(0.6 + 0.12 * np.sin(t / 5) + rng.normal(0, 0.03, bins), 0, 1)
    return [
        {
            "t_s": float(t[i]),
            "span_s": 0.5,
            "received": 5,
            "segmented": 5 - int(dropped[i]),
            "dropped": int(dropped[i]),
            "latency_p50_ms": float(p50[i]),
            "latency_max_ms": float(p50[i] * (1.2 + dropped[i])),
            "shares": shares[i].tolist(),
            "confidence": float(0.5 + quality[i] / 2),
            "consistency": float(0.9 + quality[i] / 10),
            "mean_iou": float(quality[i]) if truth else None,
        }
        for i in range(bins)
    ]


def _shown(
    model: str, number: int, seed: int, folder: Path, size: tuple[int, int], truth: bool
) -> dict[str, Any]:
    image, labels = street_scene(7, *size).render(0.8 * number)
    palette = load_label_set("camvid11").palette()
    coarse = cv2.resize(labels, None, fx=0.05 + 0.02 * seed, fy=0.05, interpolation=cv2.INTER_NEAREST)
    predicted = cv2.resize(coarse, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    pictures = {"image": image, "overlay": overlay(image, predicted, palette)}
    if truth:
        pictures["truth"] = overlay(image, labels, palette)
    (folder / "frames" / model).mkdir(parents=True, exist_ok=True)
    paths = {kind: f"frames/{model}/{17 * number:04d}_{kind}.jpg" for kind in pictures}
    for kind, path in paths.items():
        write_picture(folder / path, pictures[kind])
    score = min(0.31 + 0.02 * number, 1.0) if truth else None
    return {
        "bag": 0,
        "index": 17 * number,
        "t_s": 1.7 * number,
        "mean_iou": score,
        "confidence": 0.7,
        "truth": None,
        **paths,
    }


def _comparisons(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    comparisons = []
    for i, (a, b) in enumerate(pairwise(models)):
        difference = a["accuracy"]["mean_iou"] - b["accuracy"]["mean_iou"]
        half = abs(difference) / 2 if i % 2 == 0 else abs(difference) + 0.01
        comparisons.append(
            {
                "a": a["name"],
                "b": b["name"],
                "difference": difference,
                "interval": [difference - half, difference + half],
                "significant": i % 2 == 0,
                "method": "paired block bootstrap of mean IoU, 1000 draws",
            }
        )
    return comparisons
