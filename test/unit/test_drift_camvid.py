"""A shipped model's profile against CamVid's validation frames, and against what the model is not meant for.

False alarms are counted over windows of ten seconds, at CamVid's one frame per second.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

from rt_segmentation.data.camvid import CamVid
from rt_segmentation.evaluation.profiling import read_answers
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import find_model
from rt_segmentation.ros.health_parameters import DRIFT_LIMIT, HEALTH
from rt_segmentation.runtime.drift import Drift

MODEL = "enet"
DATA = Path(os.environ.get("RTSEG_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
LIMIT = next(parameter.default for parameter in HEALTH if parameter.name == DRIFT_LIMIT)


def drifts(images: Iterable[np.ndarray]) -> list[float]:
    """The measure after each frame, one per second, once there is one."""
    manifest = find_model(MODEL)
    if manifest.profile is None:
        pytest.skip(f"{MODEL} has no profile; `rt_seg models profile {MODEL} --write` makes one")
    now = [0.0]
    drift = Drift(manifest.profile, manifest.labels().names, lambda: now[0])
    found = []
    for answer in read_answers(Segmenter.build(manifest, "torch", "fp32"), images):
        now[0] += 1.0
        drift.add(answer)
        if drift.value is not None:
            found.append(drift.value)
    return found


def office() -> np.ndarray:
    """A wall, a floor, a table and a screen, in the light of a lamp."""
    y, x = np.mgrid[0:360, 0:480].astype(np.float32)
    picture = np.empty((360, 480, 3), np.float32)
    picture[:] = np.array([205, 196, 180]) * (1 - np.hypot(x - 240, y - 60) / 900)[..., None]
    picture[260:] = (110, 82, 60)
    cv2.rectangle(picture, (40, 200), (440, 225), (150, 112, 70), -1)
    cv2.rectangle(picture, (190, 90), (330, 190), (28, 30, 36), -1)
    cv2.rectangle(picture, (360, 20), (460, 130), (235, 240, 245), -1)
    return np.clip(picture, 0, 255).astype(np.uint8)


def test_noise_and_an_office_are_loud() -> None:
    rng = np.random.default_rng(0)
    assert min(drifts(rng.integers(0, 256, (360, 480, 3), np.uint8) for _ in range(5))) > LIMIT
    still = office().astype(np.int16)
    images = (np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(5))
    assert min(drifts(images)) > LIMIT


@pytest.mark.skipif(not (DATA / "camvid" / "val").is_dir(), reason="CamVid is not in ../shared/data")
def test_validation_frames_are_quiet() -> None:
    frames = CamVid(DATA / "camvid", "val")
    values = drifts(frames[i].image for i in range(0, len(frames), 3))
    assert np.mean(np.array(values) > LIMIT) == 0, f"false alarms: {values}"
