"""Frames of several cameras as one batch: the labels of one by one, on the engines that make batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.streets import street_scene

from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.inference import tuning
from rt_segmentation.inference.engines import planned
from rt_segmentation.inference.engines.planned import plan_engine
from rt_segmentation.inference.segmenter import Segmenter, SegmenterConfig
from rt_segmentation.inference.sizes import Sizes
from rt_segmentation.inference.tuning import Throughput, Timing
from rt_segmentation.models import ModelManifest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

WIDTH, HEIGHT = 64, 48


def street(time_s: float) -> Frame:
    rgb = street_scene(0, WIDTH, HEIGHT).render(time_s)[0]
    return Frame((rgb,), "rgb8", WIDTH, HEIGHT, 0, "camera")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_labels_of_a_batch_are_those_of_one_by_one(
    small_model: ModelManifest, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    rates = [Throughput(name, "fp32", 1, 1, 10.0), Throughput(name, "fp32", 1, 2, 20.0)]
    tuning.remember(small_model, HEIGHT, WIDTH, [Timing(name, "fp32", 1.0)], rates)
    engine = plan_engine(small_model, name, "fp32", cameras=2)
    config = SegmenterConfig(small_model, small_model.labels(), engine, (WIDTH, HEIGHT), sizes=Sizes(engine))
    # One of the cameras hangs upside down, and shows a part.
    rear = replace(config, rotation=180, roi=Region(8, 8, 32, 24))
    segmenter = Segmenter(replace(config, sources={"rear": rear}))
    frames, sources = [street(1.0), street(2.0)], ["front", "rear"]
    config.prepare()
    assert segmenter.batch == 2
    # Made ready before: no frame waits for it.
    monkeypatch.setattr(planned.PlannedEngine, "prepare", None)
    together = segmenter.infer(frames, False, sources)
    for frame, source, result in zip(frames, sources, together):
        (alone,) = segmenter.infer([frame], False, [source])
        np.testing.assert_array_equal(result.labels, alone.labels)
        assert result.frame is frame and result.placement == alone.placement
    whole = together[1].resized().labels
    assert (whole[:8] == 255).all() and (whole[8:32, 8:40] != 255).any()


def test_an_engine_without_a_plan_makes_no_batches(small_model: ModelManifest) -> None:
    segmenter = Segmenter.build(small_model, "torch", "fp32")
    assert segmenter.batch == 1
    segmenter.refuse_batches("nothing to refuse")
    assert segmenter.batch == 1
