"""Scores against cityscapesscripts' own, on the same files."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.dataset_layouts import blocks, make_cityscapes, write

from rt_segmentation.data.cityscapes import Cityscapes
from rt_segmentation.evaluation.cityscapes import CityscapesScores

ALL = tuple(range(34))
CASES: dict[str, list[tuple[Sequence[int], Sequence[int]]]] = {
    # Label ids of truth and prediction in each image.
    "every label": [(ALL, ALL), (ALL, ALL), (ALL, ALL)],
    "few classes": [((7, 8, 26), (7, 8, 26)), ((7, 24, 0), (7, 24, 26))],
    "absent but predicted": [((7, 11, 24), (7, 11, 31, 33))],
    "caravans and trailers": [((26, 29, 30, 7), (26, 28, 29, 30, 7)), ((29, 30), (26,))],
    "void alone": [((0, 1, 2, 3, 4, 5, 6), ALL), ((0,), (7,))],
    "void predicted": [((7, 26, 23), (0, 7, 9, 26))],
    "nothing right": [((24, 26), (7, 8))],
    "perfect": [((7, 24, 26, 0), ()), ((33, 21), ())],
}


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> Any:
    # NumPy 2.4 has no in1d any more, which the tool uses as isin.
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    return pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling",
        reason="cityscapesscripts (with pyquaternion and pillow) is not installed",
    )


def official_scores(official: Any, predictions: list[Path], truths: list[Path]) -> dict[str, Any]:
    arguments = copy.copy(official.args)
    arguments.quiet, arguments.JSONOutput = True, False
    result = official.evaluateImgLists([str(p) for p in predictions], [str(p) for p in truths], arguments)
    assert isinstance(result, dict)
    return result


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("annotation", ["gtFine", "gtCoarse"])
@pytest.mark.parametrize("case", CASES)
def test_equal_the_official_tool(tmp_path: Path, official: Any, case: str, annotation: str) -> None:
    truths, predictions = [], []
    for i, (true_ids, predicted_ids) in enumerate(CASES[case]):
        truth = blocks(i, true_ids, 96, 64)
        # Half is right, so that classes have scores between 0 and 1.
        wrong = blocks(100 + i, predicted_ids or true_ids, 96, 64, side=4)
        keep = blocks(200 + i, (0, 1), 96, 64, side=16) > 0
        truths.append(truth)
        predictions.append(
            truth if not predicted_ids else np.where(keep & np.isin(truth, predicted_ids), truth, wrong)
        )
    names = [f"ulm_{i:06d}_000019" for i in range(len(truths))]
    make_cityscapes(tmp_path, "val", names, truths, annotation)
    files = []
    for name, predicted in zip(names, predictions):
        files.append(tmp_path / "results" / f"{name}_pred.png")
        write(files[-1], predicted)

    kind = "fine" if annotation == "gtFine" else "coarse"
    dataset = Cityscapes(tmp_path, "val", "cityscapes34", kind)
    scores = CityscapesScores()
    for i, predicted in enumerate(predictions):
        scores.update(dataset[i].labels, predicted, dataset.instances(i))

    expected = official_scores(official, files, [p.labels for p in dataset.pairs if p.labels])
    np.testing.assert_array_equal(scores.confusion.counts[:, :34], expected["confMatrix"])
    for ours, theirs in (
        (scores.class_iou(), "classScores"),
        (scores.class_iiou(), "classInstScores"),
        (scores.category_iou(), "categoryScores"),
        (scores.category_iiou(), "categoryInstScores"),
    ):
        for name, value in expected[theirs].items():
            # What the tool does not score we do not name.
            assert ours.get(name, math.nan) == pytest.approx(value, abs=1e-6, nan_ok=True), (theirs, name)
    assert scores.confusion.mean_iou() == pytest.approx(
        expected["averageScoreClasses"], abs=1e-6, nan_ok=True
    )
    assert scores.iiou() == pytest.approx(expected["averageScoreInstClasses"], abs=1e-6, nan_ok=True)


def test_average_instance_sizes_are_the_official_ones(official: Any) -> None:
    from rt_segmentation.evaluation.cityscapes import AVERAGE_INSTANCE_SIZES

    for name, size in AVERAGE_INSTANCE_SIZES.items():
        assert official.args.avgClassSize[name] == size


def test_a_small_instance_weighs_as_much_as_a_large_one() -> None:
    truth = np.full((10, 10), 26, np.uint8)
    instances = np.full((10, 10), 26001, np.uint16)
    instances[0, :2] = 26002
    predicted = truth.copy()
    predicted[0, :2] = 7
    scores = CityscapesScores()
    scores.update(truth, predicted, instances)
    assert scores.class_iou()["car"] == 0.98
    assert scores.class_iiou()["car"] == pytest.approx(0.5)


def test_instances_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"instances are \(3, 4\), prediction \(2, 2\)"):
        CityscapesScores().update(
            np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((3, 4), np.uint16)
        )
