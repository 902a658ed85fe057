"""Bags evaluated from their files to the result: accuracy, truth, drops, faults, interruptions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from support.street_bags import (
    BEGIN_NS,
    PERIOD_NS,
    image,
    settings,
    street,
    street_bag,
    without_timings,
    write_bag,
)

from rt_segmentation.bags.reading import BagReader
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.report.wording import summary
from rt_segmentation.evaluation.bag.result import from_plain
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError, segment_image
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.imaging.codec import encode_png
from rt_segmentation.imaging.frame import Frame, Region
from rt_segmentation.inference.segmenter import Segmenter
from rt_segmentation.models import ModelManifest

FRAMES = 12


def nothing(*_: Any) -> None:
    """Nobody watches the progress."""


def evaluate(paths: list[Path], chosen: Settings, **changes: Any) -> dict[str, Any]:
    given = {"stop": threading.Event(), "progress": nothing, **changes}
    return evaluate_bags(paths, chosen, "rt_seg evaluate-bag", **given).to_plain()


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return street_bag(tmp_path_factory.mktemp("bags") / "street", FRAMES)


@pytest.fixture(scope="module")
def masks(small_model: ModelManifest) -> list[np.ndarray]:
    """What the segmenter makes of the bag's frames without a bag."""
    segmenter = Segmenter.build(small_model, "torch", "fp32")
    return [segment_image(segmenter, street(i)[0]) for i in range(FRAMES)]


@pytest.fixture(scope="module")
def matrices(masks: list[np.ndarray]) -> list[ConfusionMatrix]:
    """Of each frame."""
    found = []
    for i, mask in enumerate(masks):
        matrix = ConfusionMatrix(11)
        matrix.update(street(i)[1], mask)
        found.append(matrix)
    return found


def total(matrices: list[ConfusionMatrix]) -> ConfusionMatrix:
    whole = ConfusionMatrix(11)
    for matrix in matrices:
        whole.add(matrix)
    return whole


def test_the_scores_are_those_of_the_same_frames_without_a_bag(
    bag: Path,
    small_model: ModelManifest,
    masks: list[np.ndarray],
    matrices: list[ConfusionMatrix],
    tmp_path: Path,
) -> None:
    result = evaluate([bag], settings(small_model, tmp_path))
    (model,) = result["models"]
    whole = total(matrices)
    accuracy = model["accuracy"]
    assert accuracy["mean_iou"] == whole.mean_iou() and accuracy["confusion"] == whole.counts.tolist()
    assert accuracy["frames"] == model["received"] == model["segmented"] == FRAMES
    assert accuracy["interval"][0] <= accuracy["mean_iou"] <= accuracy["interval"][1]
    shares = np.bincount(np.stack(masks).ravel(), minlength=11)[:11] / np.stack(masks).size
    assert list(model["class_shares"].values()) == pytest.approx(shares.tolist())
    same = np.mean([np.mean(a == b) for a, b in pairwise(masks)])
    assert model["temporal_consistency"] == pytest.approx(same)
    assert model["drop_rate"] == 0 and model["fps"] > 0 and model["engine_fps"] > 0
    assert sum(model["latency_histogram"]["counts"]) == FRAMES
    assert not result["partial"] and not result["problems"] and result["comparisons"] == []

    scores = [matrix.mean_iou() for matrix in matrices]
    assert [shown["index"] for shown in model["shown"]] == sorted(range(FRAMES), key=lambda i: scores[i])
    assert [entry["mean_iou"] for entry in model["timeline"]] == pytest.approx(scores)
    for shown in model["shown"]:
        for name in ("image", "overlay", "truth"):
            picture = cv2.imread(str(tmp_path / shown[name]))
            assert picture is not None and picture.shape == (120, 160, 3)


def test_a_region_is_all_that_is_measured(bag: Path, small_model: ModelManifest, tmp_path: Path) -> None:
    roi, rotation = Region(20, 30, 80, 60), 180
    result = evaluate([bag], settings(small_model, tmp_path, roi=roi, rotation=rotation))
    segmenter = Segmenter.build(small_model, "torch", "fp32")
    segmenter.config = replace(segmenter.config, roi=roi, rotation=rotation)
    matrix, counted, confidence = ConfusionMatrix(11), np.zeros(256, int), []
    for i in range(FRAMES):
        rgb, truth = street(i)
        (found,) = segmenter.segment([Frame.from_rgb(rgb)], confidence=True)
        matrix.update(truth[roi.slices], found.labels[roi.slices])
        counted += np.bincount(found.labels[roi.slices].ravel(), minlength=256)
        assert found.confidence is not None
        confidence.append(found.confidence[roi.slices].mean() / 255)
    (model,) = result["models"]
    assert model["accuracy"]["confusion"] == matrix.counts.tolist()
    shares = counted[:11] / counted.sum()
    assert list(model["class_shares"].values()) == pytest.approx(shares.tolist())
    assert [entry["confidence"] for entry in model["timeline"]] == pytest.approx(confidence)


def test_a_region_that_the_images_do_not_hold_is_said(
    bag: Path, small_model: ModelManifest, tmp_path: Path
) -> None:
    with pytest.raises(RtSegmentationError, match=r"roi is \[100, 0, 80, 60\], .*the image has 160x120 px"):
        evaluate([bag], settings(small_model, tmp_path, roi=Region(100, 0, 80, 60)))


def test_without_truth_there_is_confidence_and_the_least_confident_come_first(
    bag: Path, small_model: ModelManifest, tmp_path: Path
) -> None:
    (model,) = evaluate([bag], settings(small_model, tmp_path, label_topic=None))["models"]
    assert model["accuracy"] is None and 0 < model["mean_confidence"] < 1
    confidences = [shown["confidence"] for shown in model["shown"]]
    assert confidences == sorted(confidences) and len(confidences) == FRAMES
    assert all(shown["truth"] is None for shown in model["shown"])


def test_the_topic_that_is_not_the_labels_is_the_images(
    bag: Path, small_model: ModelManifest, tmp_path: Path
) -> None:
    result = evaluate([bag], settings(small_model, tmp_path / "out", image_topic=None))
    (described,) = result["bags"]
    assert (described["image_topic"], described["label_topic"]) == ("camera", "truth")
    assert result["notes"] == []


@pytest.mark.parametrize("shift_ns", [0, PERIOD_NS * 4 // 10, -PERIOD_NS * 4 // 10])
def test_labels_belong_to_the_frame_with_the_nearest_stamp(
    small_model: ModelManifest, matrices: list[ConfusionMatrix], tmp_path: Path, shift_ns: int
) -> None:
    path = street_bag(tmp_path / "bag", FRAMES, label_shift_ns=shift_ns)
    (model,) = evaluate([path], settings(small_model, tmp_path / "out"))["models"]
    assert model["accuracy"]["confusion"] == total(matrices).counts.tolist()


def test_labels_half_a_period_away_belong_to_no_frame(small_model: ModelManifest, tmp_path: Path) -> None:
    path = street_bag(tmp_path / "bag", 3, label_shift_ns=10 * PERIOD_NS)
    result = evaluate([path], settings(small_model, tmp_path / "out"))
    assert result["models"][0]["accuracy"] is None and result["lacks_truth"]
    few, unused = result["problems"]
    assert (
        "0 of 3 images have labels from topic truth (3 messages); the nearest labels of the others are" in few
    )
    assert "0.900 s later in the middle, and they may be 0.050 s away" in few
    assert unused.startswith("ground truth was asked for, and no frame could be compared with it: ")


@pytest.mark.parametrize("order", ["before", "after", "long after"])
def test_labels_may_be_recorded_before_or_after_their_frame(
    small_model: ModelManifest, matrices: list[ConfusionMatrix], tmp_path: Path, order: str
) -> None:
    delay = {"before": -PERIOD_NS, "after": PERIOD_NS, "long after": 5 * PERIOD_NS}[order]
    messages = []
    for i in range(FRAMES):
        rgb, labels = street(i)
        stamp = BEGIN_NS + i * PERIOD_NS
        messages += [("camera", stamp, image(rgb, stamp)), ("truth", stamp + delay, image(labels, stamp))]
    path = write_bag(tmp_path / "bag", sorted(messages, key=lambda message: message[1]))
    (model,) = evaluate([path], settings(small_model, tmp_path / "out"))["models"]
    assert model["accuracy"]["confusion"] == total(matrices).counts.tolist()


def test_labels_of_a_folder_and_void_ids(
    bag: Path, small_model: ModelManifest, masks: list[np.ndarray], tmp_path: Path
) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    expected = ConfusionMatrix(11, ignored=[3])
    for i in range(0, FRAMES, 2):
        labels = street(i)[1].copy()
        labels[:10] = 11
        labels[10:20] = 200
        (folder / f"{BEGIN_NS + i * PERIOD_NS + 1000}.png").write_bytes(encode_png(labels))
        expected.update(np.where(labels >= 11, 255, labels).astype(np.uint8), masks[i])
    chosen = settings(small_model, tmp_path / "out", label_topic=None, labels=folder, void_ids=(3,))
    (model,) = evaluate([bag], chosen)["models"]
    assert model["accuracy"]["frames"] == FRAMES // 2
    assert expected.counts[3].any() and expected.counts[:, 3].any()
    assert model["accuracy"]["mean_iou"] == expected.mean_iou()
    assert model["accuracy"]["class_average"] == expected.class_average()
    assert model["accuracy"]["global_average"] == expected.global_average()
    (folder / "first.png").write_bytes(encode_png(labels))
    with pytest.raises(
        EvaluationError, match=r"has 'first.png'; it holds label images named by their stamps"
    ):
        evaluate([bag], replace(chosen, out=tmp_path / "again"))


def test_labels_of_another_size_or_encoding_are_told_and_left_out(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    rgb, labels = street(0)
    small = np.ascontiguousarray(labels[::2, ::2])
    messages = [
        (topic, BEGIN_NS + i * PERIOD_NS, image(pixels, BEGIN_NS + i * PERIOD_NS))
        for i, pair in enumerate(((rgb, labels), (rgb, small), (rgb, rgb)))
        for topic, pixels in zip(("camera", "truth"), pair)
    ]
    path = write_bag(tmp_path / "bag", messages)
    result = evaluate([path], settings(small_model, tmp_path / "out"))
    assert result["models"][0]["accuracy"]["frames"] == 1
    assert [problem.partition(": ")[2] for problem in result["problems"]] == [
        "labels of frame 1 are 80x60 px, the image is 160x120 px",
        "labels of frame 2: The labels are colours; label images hold a class id a pixel, in one channel.",
    ]


def test_damaged_frames_are_counted_by_reason(small_model: ModelManifest, tmp_path: Path) -> None:
    def damage(number: int, message: Any) -> Any:
        changes = {2: {"data": message.data[:-1]}, 4: {"encoding": "rgb9"}, 5: {"encoding": "rgb9"}}
        return replace(message, **changes.get(number, {}))

    path = street_bag(tmp_path / "bag", FRAMES, change=damage)
    result = evaluate([path], settings(small_model, tmp_path / "out"))
    (model,) = result["models"]
    assert model["dropped"] == {"truncated": 1, "unknown_encoding": 2}
    assert (model["received"], model["segmented"], model["drop_rate"]) == (FRAMES, FRAMES - 3, 3 / FRAMES)
    first, second = result["problems"]
    assert "frame 2: The rgb8 image of 160x120 px" in first
    assert f"{path}: frame 4 and 1 more: " in second and "rgb9" in second
    assert not result["partial"]


def test_models_are_compared_on_one_pass(bag: Path, small_model: ModelManifest, tmp_path: Path) -> None:
    twin = small_model.path.with_name("twin.yaml")
    twin.write_text(small_model.path.read_text())
    chosen = settings(small_model, tmp_path, models=(str(small_model.path), str(twin)))
    result = evaluate([bag], chosen)
    first, second = without_timings(result)["models"]
    assert (first.pop("name"), second.pop("name")) == ("small", "twin")
    assert first["accuracy"] == second["accuracy"] and len(first["shown"]) == len(second["shown"]) == FRAMES
    (pair,) = result["comparisons"]
    assert (pair["difference"], pair["interval"], pair["significant"]) == (0.0, [0.0, 0.0], False)
    with pytest.raises(EvaluationError, match="model 'small' is given twice"):
        evaluate([bag], replace(chosen, models=(str(small_model.path),) * 2, out=tmp_path / "again"))


def test_many_bags_are_one_result(
    bag: Path, small_model: ModelManifest, tmp_path: Path, matrices: list[ConfusionMatrix]
) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(b"no bag at all" * 100)
    result = evaluate([bag, broken, bag], settings(small_model, tmp_path / "out"))
    (model,) = result["models"]
    assert model["accuracy"]["confusion"] == (2 * total(matrices).counts).tolist()
    assert [entry["frames"] for entry in result["bags"]] == [FRAMES, 0, FRAMES]
    assert result["bags"][1]["problem"] and str(broken) in result["problems"][0]
    assert not result["partial"]
    assert {entry["bag"] for entry in model["timeline"]} == {0, 2}
    for shown in model["shown"]:
        assert (tmp_path / "out" / shown["image"]).is_file()
    with pytest.raises(EvaluationError, match="no bag could be read"):
        evaluate([broken], settings(small_model, tmp_path / "none"))


def test_a_truncated_bag_is_evaluated_as_far_as_it_goes(small_model: ModelManifest, tmp_path: Path) -> None:
    path = street_bag(tmp_path / "bag", 40)
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    result = evaluate([path], settings(small_model, tmp_path / "out"))
    (entry,) = result["bags"]
    assert 0 < entry["frames"] < 40 and entry["lost"] == 40 - entry["frames"]
    assert "broke after its message" in entry["problem"] and result["problems"] == [entry["problem"]]
    assert result["models"][0]["segmented"] == entry["frames"] and not result["partial"]


def test_worst_frames_are_bounded_and_nothing_else_stays_on_disk(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    paths = [street_bag(tmp_path / name, 20, first) for name, first in (("a", 0), ("b", 20))]
    (model,) = evaluate(paths, settings(small_model, tmp_path / "out"))["models"]
    assert len(model["shown"]) == 24
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out" / "frames").rglob("*.jpg")}
    assert files == {shown[name] for shown in model["shown"] for name in ("image", "overlay", "truth")}
    scores = [shown["mean_iou"] for shown in model["shown"]]
    assert scores == sorted(scores)
    everything = sorted(entry["mean_iou"] for entry in model["timeline"])
    assert scores == pytest.approx(everything[:24])


def stop_after(frames: int, stop: threading.Event) -> Callable[[int, int, bool], None]:
    def progress(_: int, done: int, finished: bool) -> None:
        if done >= frames and not finished:
            stop.set()

    return progress


@pytest.mark.parametrize("mode", ["throughput", "realtime"])
def test_an_evaluation_that_is_stopped_is_partial_and_closed_and_can_go_on(
    small_model: ModelManifest, tmp_path: Path, mode: str
) -> None:
    path = street_bag(tmp_path / "bag", 20, period_ns=PERIOD_NS // 5)
    chosen = settings(small_model, tmp_path / "out", write_bag=True, mode=mode)
    stop = threading.Event()
    partial = evaluate([path], chosen, stop=stop, progress=stop_after(5, stop))
    assert partial["partial"] and 5 <= partial["bags"][0]["frames"] < 20
    with BagReader(chosen.out / "masks" / "0000_bag") as reader:
        counts = {topic.count for topic in reader.topics}
        assert counts == {partial["models"][0]["segmented"]}
    whole = evaluate([path], chosen, resume=True)
    assert not whole["partial"] and whole["bags"][0]["frames"] == 20
    if mode == "throughput":
        again = evaluate([path], replace(chosen, out=tmp_path / "again"))
        assert without_timings(whole) == without_timings(again)
        with BagReader(chosen.out / "masks" / "0000_bag") as reader:
            assert {topic.count for topic in reader.topics} == {20}


def test_going_on_wants_the_same_arguments(bag: Path, small_model: ModelManifest, tmp_path: Path) -> None:
    evaluate([bag], settings(small_model, tmp_path))
    with pytest.raises(EvaluationError, match=r"of an evaluation with void_ids \[\], not \[3\]; resume with"):
        evaluate([bag], settings(small_model, tmp_path, void_ids=(3,)), resume=True)


@pytest.mark.parametrize("parallel", [1, 2])
def test_in_real_time_every_frame_is_segmented_or_replaced_by_a_newer_one(
    small_model: ModelManifest, tmp_path: Path, parallel: int
) -> None:
    # 100 frames in a quarter of a second are more than any machine segments.
    path = street_bag(tmp_path / "bag", 100, period_ns=PERIOD_NS // 40)
    chosen = settings(small_model, tmp_path / "out", mode="realtime", parallel_frames=parallel)
    result = evaluate([path], chosen)
    (model,) = result["models"]
    assert result["parallel_frames"] == parallel
    assert ("2 were segmented concurrently" in summary(from_plain(result))) == (parallel == 2)
    assert model["received"] == 100 == model["segmented"] + model["dropped"]["replaced"]
    assert model["drop_rate"] == model["dropped"]["replaced"] / 100
    assert model["segmented"] == model["accuracy"]["frames"] >= 1
    assert model["mean_confidence"] is None
    assert model["age_ms"]["min"] >= model["latency_ms"]["min"] > 0
    assert sum(entry["dropped"] for entry in model["timeline"]) == model["dropped"]["replaced"]


def test_the_rate_scales_the_time_between_frames(small_model: ModelManifest, tmp_path: Path) -> None:
    path = street_bag(tmp_path / "bag", 4)
    stops = []
    for rate in (100.0, 0.5):
        chosen = settings(small_model, tmp_path / f"{rate}", mode="realtime", rate=rate)
        (model,) = evaluate([path], chosen)["models"]
        stops.append((model["segmented"] / model["fps"], model["age_ms"]))
    # Three periods at half the speed; the quick one takes as long as its masks.
    assert stops[1][0] >= 3 * 0.2 > 0.5 > 3 * PERIOD_NS / 100 / 1e9
    assert stops[1][1]["min"] >= 200


def test_settings_that_do_not_go_together_are_refused(
    bag: Path, small_model: ModelManifest, tmp_path: Path
) -> None:
    for changes, options, sentence in (
        ({"mode": "realtime"}, {"jobs": 2}, "real time wants the machine for one bag at a time"),
        ({"parallel_frames": 2}, {}, "--parallel-frames goes with --mode realtime"),
        ({"video": True}, {"resume": True}, "a video cannot be continued"),
        ({"labels": tmp_path}, {}, "from --label-topic or from --labels, not from both"),
    ):
        with pytest.raises(EvaluationError, match=sentence):
            evaluate([bag], settings(small_model, tmp_path, **changes), **options)
