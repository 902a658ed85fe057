"""The segmenter: network sizes, batches, confidences, result sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")
import torch
from support.streets import street_scene

from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.inference.engines import Engine, EngineError
from rt_segmentation.inference.network import load_network
from rt_segmentation.inference.segmenter import KEPT_PLACEMENTS, Current, Segmenter, SegmenterConfig
from rt_segmentation.models import ModelError, ModelManifest


@pytest.fixture(scope="module")
def segmenter(small_model: ModelManifest) -> Segmenter:
    return Segmenter.build(small_model, "torch", "fp32")


def street(width: int, height: int, time_s: float = 0.0) -> Frame:
    return Frame((street_scene(1, width, height).render(time_s)[0],), "rgb8", width, height, 0, "camera")


def blank(width: int, height: int) -> Frame:
    return Frame((np.zeros((height, width, 3), np.uint8),), "rgb8", width, height, 0, "camera")


@pytest.mark.parametrize(
    ("camera", "given", "network"),
    [
        ((480, 360), (0, 0), (480, 360)),
        ((640, 360), (0, 0), (640, 360)),
        ((1280, 720), (0, 0), (640, 360)),
        ((640, 480), (0, 0), (480, 360)),
        ((360, 640), (0, 0), (200, 360)),
        ((1280, 720), (0, 180), (320, 180)),
        ((1280, 720), (512, 0), (512, 360)),
        ((1280, 720), (512, 256), (512, 256)),
        # A strip, upright and lying, stays within what a network and a memory can take.
        ((32, 7680), (0, 0), (32, 360)),
        ((7680, 32), (0, 0), (7680, 360)),
    ],
)
def test_network_size_keeps_the_cameras_aspect_ratio(
    segmenter: Segmenter, camera: tuple[int, int], given: tuple[int, int], network: tuple[int, int]
) -> None:
    manifest = replace(segmenter.config.manifest, width=480, height=360)
    config = replace(segmenter.config, manifest=manifest, input_size=given)
    assert config.network_size(blank(*camera)) == network


@pytest.mark.parametrize("camera", [(160, 120), (200, 120), (97, 61)])
def test_results_have_the_cameras_size_or_the_networks(segmenter: Segmenter, camera: tuple[int, int]) -> None:
    frame = street(*camera)
    (of_camera,) = segmenter.segment([frame], confidence=True)
    own = Segmenter(replace(segmenter.config, output_resolution="network"))
    (of_network,) = own.segment([frame], confidence=True)
    width, height = segmenter.config.network_size(frame)
    assert of_camera.confidence is not None and of_network.confidence is not None
    assert of_camera.labels.shape == of_camera.confidence.shape == camera[::-1]
    assert of_network.labels.shape == of_network.confidence.shape == (height, width)
    assert of_network.rgb.shape == (height, width, 3)
    nearest = cv2.resize(of_network.labels, camera, interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(of_camera.labels, nearest)


def test_labels_and_confidence_are_argmax_and_softmax_of_the_logits(
    small_model: ModelManifest, segmenter: Segmenter
) -> None:
    # Different by channel, so that a mixed-up one shows.
    manifest = replace(small_model, mean=(0.1, 0.2, 0.3), std=(0.2, 0.4, 0.5))
    frame = street(160, 120)
    mean, std = (np.array(numbers, np.float32) for numbers in (manifest.mean, manifest.std))
    normalised = (frame.planes[0] / np.float32(255) - mean) / std
    with torch.inference_mode():
        images = torch.from_numpy(normalised.astype(np.float32)).permute(2, 0, 1).unsqueeze(0)
        logits = load_network(manifest)(images)[0].double().numpy()
    exponentials = np.exp(logits)
    probability = exponentials.max(0) / exponentials.sum(0)
    (result,) = Segmenter.build(manifest, "torch", "fp32").segment([frame], confidence=True)
    assert result.confidence is not None
    assert result.labels.dtype == result.confidence.dtype == np.uint8
    # Rounding differs between ways to normalise: pooling ties move single pixels.
    assert (result.labels == logits.argmax(0)).mean() > 0.999
    assert np.mean(np.abs(result.confidence - probability * 255) > 1) < 0.001
    assert result.confidence.min() >= 255 // 11
    (unnormalised,) = segmenter.segment([frame])
    assert (unnormalised.labels != result.labels).mean() > 0.1


@pytest.mark.parametrize(
    ("geometry", "network"),
    [
        ({"roi": Region(0, 60, 160, 60)}, (320, 120)),
        ({"rotation": 90}, (88, 120)),
        ({"roi": Region(0, 60, 160, 60), "rotation": 270}, (48, 120)),
        ({"roi": Region(0, 0, 120, 60), "input_size": (64, 64), "letterbox": True}, (64, 64)),
    ],
)
def test_the_network_sees_its_part_of_the_image_upright(
    segmenter: Segmenter, geometry: dict[str, Any], network: tuple[int, int]
) -> None:
    frame = street(160, 120)
    placed = Segmenter(replace(segmenter.config, **geometry))
    (result,) = placed.segment([frame], confidence=True)
    assert result.rgb.shape[:2] == network[::-1]
    assert result.labels.shape == (120, 160) and result.confidence is not None
    # As if somebody had cut and turned the image before, but for how a resize rounds.
    roi = geometry.get("roi", Region(0, 0, 160, 120))
    seen = np.rot90(frame.planes[0][roi.slices], {0: 0, 90: -1, 270: 1}[geometry.get("rotation", 0)])
    alone = replace(segmenter.config, input_size=geometry.get("input_size", (0, 0)))
    alone = replace(alone, letterbox=geometry.get("letterbox", False))
    (cut,) = Segmenter(alone).infer([Frame.from_rgb(seen)])
    assert np.abs(cut.rgb.astype(int) - result.rgb).max() <= 1
    outside = np.ones((120, 160), bool)
    outside[roi.slices] = False
    assert (result.labels[outside] == 255).all() and (result.confidence[outside] == 0).all()
    assert (result.labels[~outside] < 11).all()
    assert result.overlay().shape == (120, 160, 3)


def test_a_placement_is_made_once_for_all_frames_of_a_size(segmenter: Segmenter) -> None:
    config = replace(segmenter.config, rotation=90)
    first = config.placement(blank(160, 120))
    assert config.placement(blank(160, 120)) is first
    assert config.placement(blank(160, 120), (64, 64)) is not first
    assert replace(config, rotation=0).placement(blank(160, 120)).rotation == 0
    # However many sizes come, they take no more memory.
    for width in range(160, 260):
        assert config.placement(blank(width, 120)).image == (width, 120)
    assert config.placement(blank(160, 120)) == first
    assert len(config._placements) <= KEPT_PLACEMENTS


def test_a_letterbox_is_for_a_fixed_size(segmenter: Segmenter) -> None:
    config = replace(segmenter.config, letterbox=True)
    placement = config.placement(blank(97, 61))
    assert placement.content.size == placement.network


def test_a_frame_without_the_region_is_refused_and_the_next_is_not(segmenter: Segmenter) -> None:
    placed = Segmenter(replace(segmenter.config, roi=Region(100, 0, 100, 100)))
    with pytest.raises(ImageError, match="it must lie within the image") as caught:
        placed.segment([blank(160, 120)])
    assert caught.value.reason == "roi_outside"
    assert placed.segment([blank(200, 120)])[0].labels.shape == (120, 200)


def test_confidence_is_made_only_when_asked_for(segmenter: Segmenter) -> None:
    (without,) = segmenter.segment([street(160, 120)])
    (with_it,) = segmenter.segment([street(160, 120)], confidence=True)
    assert without.confidence is None
    np.testing.assert_array_equal(without.labels, with_it.labels)


def test_a_batch_of_two_equals_each_alone(segmenter: Segmenter) -> None:
    frames = [street(160, 120), street(320, 240, 4.0)]
    alone = [segmenter.segment([frame], confidence=True)[0] for frame in frames]
    together = segmenter.segment(frames, confidence=True)
    for one, other, frame in zip(alone, together, frames):
        assert one.labels.shape == (frame.height, frame.width)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.confidence is not None and other.confidence is not None
        difference = np.abs(one.confidence.astype(int) - other.confidence)
        assert difference.max() <= 1


def test_results_go_into_the_arrays_that_are_given(segmenter: Segmenter) -> None:
    (inferred,) = segmenter.infer([street(97, 61)], confidence=True)
    assert inferred.labels.shape != (61, 97)
    assert inferred.placement.mask == (97, 61)
    (expected,) = segmenter.segment([street(97, 61)], confidence=True)
    labels, confidence = np.empty((2, 61, 97), np.uint8)
    result = inferred.resized(labels, confidence)
    assert result.labels is labels and result.confidence is confidence
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_array_equal(confidence, expected.confidence)


def test_the_networks_input_outlives_the_next_call_and_is_used_again(segmenter: Segmenter) -> None:
    frames = [Frame((street(160, 120, t).planes[0][..., ::-1],), "bgr8", 160, 120, 0, "") for t in (0, 4, 8)]
    results = [segmenter.infer([frame])[0].rgb for frame in frames[:2]]
    for rgb, frame in zip(results, frames):
        np.testing.assert_array_equal(rgb, frame.planes[0][..., ::-1])
    (third,) = segmenter.infer([frames[2]])
    assert np.shares_memory(third.rgb, results[0])


def test_a_frame_that_the_network_sees_as_it_is_is_not_copied(segmenter: Segmenter) -> None:
    frame = street(160, 120)
    before = frame.planes[0].copy()
    (own,) = segmenter.infer([frame])
    assert np.shares_memory(own.rgb, frame.planes[0])
    # Rows with more at their ends are.
    padded = np.zeros((120, 170, 3), np.uint8)
    padded[:, :160] = before
    (copied,) = segmenter.infer([replace(frame, planes=(padded[:, :160],))])
    assert not np.shares_memory(copied.rgb, padded)
    both = segmenter.infer([frame, frame])
    for result in (own, copied, *both):
        np.testing.assert_array_equal(result.rgb, before)
        np.testing.assert_array_equal(result.labels, own.labels)
    np.testing.assert_array_equal(frame.planes[0], before)


def test_the_engine_is_prepared_where_the_size_is_known(segmenter: Segmenter) -> None:
    prepared: list[tuple[int, int, int]] = []

    class Recorder:
        def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
            prepared.append((batch, height, width))

    engine = cast("Engine", Recorder())
    for size in ((0, 0), (0, 96), (128, 96), (128, 0)):
        for camera in (None, (640, 360)):
            replace(segmenter.config, engine=engine, input_size=size).prepare(camera)
    assert prepared == [(1, 120, 216), (1, 96, 168), (1, 96, 128), (1, 96, 128), (1, 120, 128), (1, 120, 128)]


def test_segmenters_of_a_stream_share_the_configuration(segmenter: Segmenter) -> None:
    current = Current(segmenter.config)
    lanes = [Segmenter(current), Segmenter(current)]
    lanes.append(lanes[0].sharing())
    current.config = replace(current.config, output_resolution="network")
    assert all(lane.config is current.config for lane in lanes)
    assert segmenter.config is not current.config


def test_results_outlive_the_next_call(segmenter: Segmenter) -> None:
    (first,) = segmenter.segment([street(160, 120)], confidence=True)
    assert first.confidence is not None
    labels, confidence = first.labels.copy(), first.confidence.copy()
    segmenter.segment([street(160, 120, 9.0)], confidence=True)
    np.testing.assert_array_equal(first.labels, labels)
    np.testing.assert_array_equal(first.confidence, confidence)


def test_frames_of_different_network_sizes_are_no_batch(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match=r"one network size, these have \[\(160, 120\), \(216, 120\)\]"):
        segmenter.segment([blank(160, 120), blank(640, 360)])
    with pytest.raises(ValueError, match="one network size"):
        segmenter.segment([])


def test_a_new_config_holds_from_the_next_batch_on(small_model: ModelManifest) -> None:
    segmenter = Segmenter.build(small_model, "torch", "fp32")
    frame = street(320, 240)
    assert segmenter.segment([frame])[0].rgb.shape == (120, 160, 3)
    segmenter.config = replace(segmenter.config, input_size=(64, 48), output_resolution="network")
    assert segmenter.segment([frame])[0].labels.shape == (48, 64)


def test_config_names_engine_and_labels(segmenter: Segmenter) -> None:
    config: SegmenterConfig = segmenter.config
    assert (config.engine.name, config.engine.precision) == ("torch", "fp32")
    assert config.label_set.names[:3] == ("Sky", "Building", "Pole")


def test_an_engine_or_precision_that_is_not_there_is_named(small_model: ModelManifest) -> None:
    with pytest.raises(EngineError, match="unknown engine 'tensorflow'; there are auto, "):
        Segmenter.build(small_model, "tensorflow")
    with pytest.raises(EngineError, match="engine 'torch' has no precision 'int8' on"):
        Segmenter.build(small_model, "torch", "int8")


def test_damaged_or_foreign_weights_are_refused(small_model: ModelManifest, tmp_path: Path) -> None:
    damaged = tmp_path / "small.safetensors"
    content = bytearray(small_model.weights_path.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ModelError, match="the file is damaged or another one"):
        Segmenter.build(replace(small_model, path=tmp_path / "small.yaml"), "torch")
    with pytest.raises(ModelError, match="do not fit the network"):
        Segmenter.build(replace(small_model, network="lednet"), "torch")
