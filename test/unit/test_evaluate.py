"""`rt_seg evaluate` and `rt_seg submit`: tables, JSON, pictures and the server's files."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dataset_layouts import blocks, image, make_cityscapes, write

from rt_segmentation.commands import evaluate, submit
from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.cityscapes import Cityscapes
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.evaluation.dataset import EvaluationError, predict
from rt_segmentation.evaluation.report import Report
from rt_segmentation.inference.segmenter import Segmenter, SegmenterConfig
from rt_segmentation.labels import LabelSet, load_label_set
from rt_segmentation.models import ModelManifest


class BandEngine:
    """Bands of classes from left to right, whatever the image shows."""

    name, precision, device = "bands", "fp32", "stub"
    warnings = ()

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """Nothing to compile."""

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        count, height, width = images.shape[:3]
        row = (np.arange(width) * self._num_classes // width).astype(np.uint8)
        return np.tile(row, (count, height, 1)), None

    def release(self, height: int, width: int) -> None:
        """Nothing to let go."""


def band_segmenter(labels: LabelSet) -> Segmenter:
    manifest = ModelManifest(
        Path("bands.yaml"), "bands", "enet", labels.name, 512, 256, "bands.safetensors", "", 0, 0.0, "none"
    )
    return Segmenter(SegmenterConfig(manifest, labels, BandEngine(len(labels.classes))))


def arguments(model: ModelManifest, root: Path, **changes: Any) -> argparse.Namespace:
    given = {
        "model": str(model.path),
        "dataset": "camvid",
        "data_root": root,
        "split": "val",
        "option": [],
        "engine": "torch",
        "precision": "fp32",
        "groups": "",
        "json": None,
        "pictures": None,
    }
    return argparse.Namespace(**{**given, **changes})


def make_camvid(root: Path, frames: int) -> None:
    for i in range(frames):
        write(root / "val" / "images" / f"f{i}.png", image(i, 160, 120))
        write(root / "val" / "labels" / f"f{i}.png", blocks(i, range(12), 160, 120))


def test_json_holds_the_scores_of_the_predictions(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_camvid(tmp_path, 3)
    evaluate.main(arguments(small_model, tmp_path, json=tmp_path / "e.json"))
    content = json.loads((tmp_path / "e.json").read_text())
    assert 0 < content["calibration_error"] < 1
    assert {key: content[key] for key in ("model", "engine", "precision", "dataset", "split", "frames")} == {
        "model": "small",
        "engine": "torch",
        "precision": "fp32",
        "dataset": "camvid",
        "split": "val",
        "frames": 3,
    }
    hits, union, right, total = np.zeros(11), np.zeros(11), 0, 0
    segmenter = Segmenter.build(small_model, "torch", "fp32")
    for sample, predicted in predict(segmenter, CamVid(tmp_path, "val")):
        known = sample.labels != 255
        right, total = right + ((sample.labels == predicted) & known).sum(), total + known.sum()
        for c in range(11):
            true, given = sample.labels == c, (predicted == c) & known
            hits[c], union[c] = hits[c] + (true & given).sum(), union[c] + (true | given).sum()
    names = load_label_set("camvid11").names
    assert content["class_iou"] == pytest.approx(dict(zip(names, (hits / union).tolist())))
    assert content["mean_iou"] == pytest.approx((hits / union).mean())
    assert content["global_average"] == pytest.approx(right / total)
    assert "iiou" not in content and 0 < content["image_dice"] < 1
    assert content["category_iou"].keys() == {c.category for c in load_label_set("camvid11").classes}
    table = capsys.readouterr().out
    assert f"mean_iou{content['mean_iou']:21.4f}" in table and "small on camvid val, 3 frames" in table


def test_pictures_show_the_best_the_median_and_the_worst(small_model: ModelManifest, tmp_path: Path) -> None:
    make_camvid(tmp_path, 2)
    evaluate.main(arguments(small_model, tmp_path, pictures=tmp_path / "pictures"))
    for kind in ("best", "median", "worst"):
        picture = cv2.imread(str(tmp_path / "pictures" / f"{kind}.png"))
        assert picture is not None and picture.shape[1] == 4 * 480
    best, worst = (cv2.imread(str(tmp_path / "pictures" / f"{kind}.png")) for kind in ("best", "worst"))
    assert best is not None and worst is not None and not np.array_equal(best, worst)


def test_frames_to_show_are_ordered_by_score() -> None:
    report = Report(_Labels())
    report.frame_scores = [0.5, math.nan, 0.9, 0.1, 0.7, 0.3]
    assert report.frames_to_show(2) == {"best": [2, 4], "median": [5, 0], "worst": [3, 5]}
    report.frame_scores = [math.nan]
    assert report.frames_to_show(2) == {"best": [], "median": [], "worst": []}


class _Labels:
    label_set = load_label_set("camvid11")
    ignored_ids: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any:
        raise IndexError(index)


def test_data_without_labels_or_with_other_classes_are_refused(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    write(tmp_path / "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png", image(0))
    with pytest.raises(EvaluationError, match="split 'test' of cityscapes has no labels"):
        evaluate.main(arguments(small_model, tmp_path, dataset="cityscapes", split="test"))
    make_cityscapes(tmp_path, "val", ["ulm_000000_000019"], [blocks(0, range(34))])
    with pytest.raises(EvaluationError, match="camvid11 is not the data set's cityscapes19"):
        evaluate.main(arguments(small_model, tmp_path, dataset="cityscapes"))


def test_labels_without_any_class_are_refused(small_model: ModelManifest, tmp_path: Path) -> None:
    write(tmp_path / "val" / "images" / "f.png", image(0, 160, 120))
    write(tmp_path / "val" / "labels" / "f.png", np.full((120, 160), 255, np.uint8))
    with pytest.raises(EvaluationError, match="no pixel of the 1 label images has a class that is evaluated"):
        evaluate.main(arguments(small_model, tmp_path, json=tmp_path / "e.json"))
    assert not (tmp_path / "e.json").exists()


@pytest.mark.parametrize("label_set", ["cityscapes19", "cityscapes19_void", "cityscapes20", "cityscapes34"])
def test_cityscapes_scores_do_not_depend_on_the_label_set(
    tmp_path: Path, label_set: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["ulm_000000_000019", "bonn_000000_000019"]
    make_cityscapes(tmp_path, "val", names, [blocks(i, range(34), 96, 64) for i in range(2)])
    truth = Cityscapes(tmp_path, "val")
    reference = Report(truth)
    report = Report(dataset := Cityscapes(tmp_path, "val", label_set))
    convert = np.array([dataset.label_set.names.index(n) for n in truth.label_set.names], np.uint8)
    for i in range(2):
        predicted = blocks(10 + i, range(19), 96, 64)
        keep = truth[i].labels != 255
        predicted[keep & (blocks(20 + i, (0, 1), 96, 64) > 0)] = 0
        reference.add(truth[i], predicted)
        report.add(dataset[i], convert[predicted])
    expected, scores = reference.result().to_plain(), report.result()
    result = scores.to_plain()
    for key in ("class_iou", "category_iou", "class_iiou", "category_iiou"):
        assert result[key] == pytest.approx(expected[key], nan_ok=True)
    for key in ("mean_iou", "iiou", "class_average", "global_average", "mean_category_iiou"):
        assert result[key] == pytest.approx(expected[key])
    assert len(result["class_iou"]) == 19 and len(result["category_iou"]) == 7
    evaluate.print_table(evaluate.Evaluated("m", "e", "p", "d", "s"), scores)
    assert "iIoU" in capsys.readouterr().out


def test_without_instance_files_there_is_no_iiou(tmp_path: Path) -> None:
    make_cityscapes(tmp_path, "val", ["ulm_000000_000019"], [blocks(0, range(34))], with_instances=False)
    dataset = Cityscapes(tmp_path, "val")
    report = Report(dataset)
    report.add(dataset[0], dataset[0].labels)
    result = report.result().to_plain()
    assert result["mean_iou"] == 1.0 and not any("iiou" in key for key in result)


@pytest.mark.parametrize("label_set", ["cityscapes19", "cityscapes20", "cityscapes34"])
def test_the_servers_files_are_what_the_official_tool_reads(
    tmp_path: Path, label_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["ulm_000000_000019", "bonn_000002_000019"]
    truth = [blocks(i, range(34), 2048, 1024, side=128) for i in range(2)]
    # Both count each instance over the whole image.
    make_cityscapes(tmp_path, "val", names, truth, instance_side=128)
    out = tmp_path / "results"
    segmenter = band_segmenter(load_label_set(label_set))
    assert submit.write_submission(segmenter, Cityscapes(tmp_path, "val"), out) == 2
    assert sorted(p.name for p in out.iterdir()) == [f"{name}_pred.png" for name in sorted(names)]
    stored = cv2.imread(str(out / f"{names[0]}_pred.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None and stored.shape == (1024, 2048) and stored.dtype == np.uint8
    by_name = {c.name: c.id for c in load_label_set("cityscapes34").classes}
    first, last = segmenter.config.label_set.names[0], segmenter.config.label_set.names[-1]
    assert (stored[:, 0] == by_name[first]).all() and (stored[:, -1] == by_name[last]).all()

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    official = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
        reason="cityscapesscripts (with pyquaternion and pillow) is not installed",
    )
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(out))
    settings = official.CArgs()
    settings.__dict__.update(official.args.__dict__)
    settings.quiet, settings.JSONOutput, settings.predictionPath, settings.predictionWalk = (
        True,
        False,
        None,
        None,
    )
    truths = sorted(str(p) for p in (tmp_path / "gtFine/val").rglob("*_labelIds.png"))
    predictions = [official.getPrediction(settings, path) for path in truths]
    expected = official.evaluateImgLists(predictions, truths, settings)

    dataset = Cityscapes(tmp_path, "val", label_set)
    report = Report(dataset)
    for sample, predicted in predict(segmenter, dataset):
        report.add(sample, predicted)
    scores = report.result()
    assert scores.mean_iou == pytest.approx(expected["averageScoreClasses"], abs=1e-6)
    assert scores.iiou == pytest.approx(expected["averageScoreInstClasses"], abs=1e-6)
    assert scores.mean_category_iou == pytest.approx(expected["averageScoreCategories"], abs=1e-6)


def test_a_submission_needs_cityscapes_classes_and_sizes(tmp_path: Path) -> None:
    write(tmp_path / "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png", image(0))
    dataset = Cityscapes(tmp_path, "test")
    segmenter = band_segmenter(load_label_set("cityscapes19"))
    with pytest.raises(DatasetError, match=r"is 64x48; Cityscapes' images are 2048x1024"):
        submit.write_submission(segmenter, dataset, tmp_path / "out")
    segmenter.config = replace(segmenter.config, label_set=load_label_set("camvid11"))
    with pytest.raises(DatasetError, match="label set camvid11 has classes that are no labels"):
        submit.write_submission(segmenter, dataset, tmp_path / "out")
