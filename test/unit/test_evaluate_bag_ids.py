"""Ground truth whose ids are of another label set: told, or found by the classes' names."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from support.street_bags import BEGIN_NS, PERIOD_NS, image, settings, street, write_bag

from rt_segmentation.cli import main
from rt_segmentation.evaluation.bag.ids import IdTable, UnknownIds, truth_by_name
from rt_segmentation.evaluation.bag.job import Settings
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.labels import LabelClass, LabelSet
from rt_segmentation.models import ModelManifest

FRAMES = 6


def of(*names: str) -> LabelSet:
    return LabelSet(
        "of", tuple(LabelClass(i, n, (i, 0, 0), "void" if n == "void" else n) for i, n in enumerate(names))
    )


def bag_of(path: Path, table: np.ndarray) -> Path:
    """A bag of streets whose label images have other ids."""
    messages = []
    for number in range(FRAMES):
        rgb, labels = street(number)
        stamp = BEGIN_NS + number * PERIOD_NS
        messages.append(("camera", stamp, image(rgb, stamp)))
        messages.append(("truth", stamp, image(table[labels], stamp)))
    return write_bag(path, messages)


def evaluate(bags: list[Path], chosen: Settings, after: int = 99, **changes: Any) -> dict[str, Any]:
    stop = threading.Event()

    def progress(_: int, done: int, __: bool) -> None:
        if done >= after:
            stop.set()

    return evaluate_bags(bags, chosen, "rt_seg evaluate-bag", stop, progress, **changes).to_plain()


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rt_segmentation.evaluation.bag.job.engine_rate", lambda *_: 1.0)


def sentence(ids: np.ndarray, *void_ids: int, truth_classes: str = "") -> str:
    """What is said of ids where five of them are classes."""
    unknown = UnknownIds()
    IdTable(5, void_ids).count_unknown(ids.astype(np.uint8), unknown)
    return unknown.sentence(5, truth_classes)


def test_many_pixels_of_no_class_are_told_and_few_or_void_ones_are_not() -> None:
    ids = np.repeat([[0, 1, 4, 255]], 1000, 0)
    assert sentence(ids) == ""
    # The first id after the classes is that of void in many data sets.
    ids[:, 3] = 5
    assert sentence(ids) == ""
    ids[:4, 0] = 9
    assert sentence(ids) == ""
    ids[:5, 0] = [9, 9, 9, 200, 200]
    assert sentence(ids) == (
        "25.1% of the ground truth's pixels have ids that are no class (0 to 4 are), and count as unlabelled:"
        " 5, 9, 200; name the ground truth's label set with --truth-classes, or ids that mean unlabelled with"
        " --void-id"
    )
    assert sentence(ids, truth_classes="city.yaml").endswith(
        ": 5, 9, 200; give --truth-classes another label set than city.yaml, or name ids that mean unlabelled"
        " with --void-id"
    )
    assert sentence(ids, 9, 200) == ""
    assert UnknownIds().sentence(5) == ""


def test_classes_go_by_their_names_and_what_is_left_is_named() -> None:
    evaluated = of("road", "Traffic Sign", "sky", "void")
    same = truth_by_name(of("road", "Traffic Sign", "sky", "void"), evaluated)
    assert same.becomes is None and not same.unscored and not same.notes
    truth = truth_by_name(of("void", "bin", "traffic_sign", "Road"), evaluated)
    assert truth.becomes is not None and truth.becomes.label_set is evaluated
    assert truth.becomes.lookup[:5].tolist() == [3, 255, 1, 0, 255] and truth.unscored == {2}
    assert truth.notes == (
        "the model has no bin: unlabelled in the ground truth",
        "the ground truth has no sky: without a score, and wrong on other classes",
    )
    with pytest.raises(EvaluationError, match=r"ground truth \(x\) and the model's \(road, .*no name in"):
        truth_by_name(of("x"), evaluated)


@pytest.mark.usefixtures("untimed")
def test_the_sentence_survives_an_interruption_and_is_each_workers(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    table = np.arange(256, dtype=np.uint8)
    table[[4, 5]] = 40, 41
    bag = bag_of(tmp_path / "bag", table)
    whole = evaluate([bag], settings(small_model, tmp_path / "whole"))
    (problem,) = whole["problems"]
    truth = np.stack([street(number)[1] for number in range(FRAMES)])
    share = np.mean((truth == 4) | (truth == 5))
    assert problem.startswith(f"{bag}: {share:.1%} of the ground truth's pixels have ids that are no class")
    assert "unlabelled: 40, 41; name the ground truth's label set" in problem
    named = settings(small_model, tmp_path / "named", truth_classes="camvid11")
    assert "another label set than camvid11, or name ids" in evaluate([bag], named)["problems"][0]

    chosen = settings(small_model, tmp_path / "resumed")
    assert evaluate([bag], chosen, after=3)["partial"]
    resumed = evaluate([bag], chosen, resume=True)
    assert not resumed["partial"] and resumed["problems"] == [problem]

    other = bag_of(tmp_path / "other", np.arange(256, dtype=np.uint8))
    both = settings(small_model, tmp_path / "both")
    assert evaluate([other, bag], both, jobs=2)["problems"] == [problem]
    quiet = settings(small_model, tmp_path / "quiet", void_ids=(40, 41))
    assert evaluate([bag], quiet)["problems"] == []


def renamed(model: ModelManifest, path: Path) -> tuple[Path, np.ndarray]:
    """The model's classes backwards, the last of them by another name; and these ids by the model's."""
    names = [name.upper() for name in reversed(model.labels().names)]
    names[0] = "bin"
    lines = [f"  - {{id: {i}, name: '{n}', color: [{i}, 9, 0]}}" for i, n in enumerate(names)]
    path.write_text("classes:\n" + "\n".join(lines) + "\n")
    table = np.arange(256, dtype=np.uint8)
    table[: len(names)] = np.arange(len(names))[::-1]
    return path, table


@pytest.mark.usefixtures("untimed")
def test_a_truth_of_other_ids_is_scored_as_the_models_own(small_model: ModelManifest, tmp_path: Path) -> None:
    classes, table = renamed(small_model, tmp_path / "theirs.yaml")
    last = small_model.labels().names[-1]
    own = np.arange(256, dtype=np.uint8)
    own[len(small_model.labels().names) - 1] = 255
    expected = evaluate([bag_of(tmp_path / "own", own)], settings(small_model, tmp_path / "a"))
    chosen = settings(small_model, tmp_path / "b", truth_classes=str(classes))
    found = evaluate([bag_of(tmp_path / "theirs", table)], chosen)

    (one,), (other) = expected["models"], found["models"][0]
    ious = {name: iou for name, iou in one["accuracy"]["class_iou"].items() if name != last}
    scores = other["accuracy"]["class_iou"]
    assert {name: iou for name, iou in scores.items() if name != last} == ious
    # It occurs nowhere in the truth: what is no class of both has no score.
    assert np.isnan(scores[last]) and found["problems"] == []
    assert found["notes"] == [
        "the model has no bin: unlabelled in the ground truth",
        f"the ground truth has no {last}: without a score, and wrong on other classes",
    ]


def test_compare_tells_of_other_ids_and_takes_their_classes(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes, table = renamed(small_model, tmp_path / "theirs.yaml")
    table[small_model.labels().names.index("Road")] = 77
    bag = bag_of(tmp_path / "bag", table)
    out = tmp_path / "c.json"
    model = str(small_model.path)
    given = ["compare", model, model, "--bag", str(bag), "--label-topic", "truth", "--engine", "torch"]
    assert not main([*given, "--json", str(out)])
    (note,) = json.loads(out.read_text())["notes"]
    assert note.startswith("bag: ") and "unlabelled: 77; name the ground truth's label set with" in note
    capsys.readouterr()

    assert not main([*given, "--truth-classes", str(classes)])
    assert f"give --truth-classes another label set than {classes}, or" in capsys.readouterr().out

    assert not main([*given, "--truth-classes", str(classes), "--void-id", "77", "--json", str(out)])
    result = json.loads(out.read_text())
    last = small_model.labels().names[-1]
    assert [note.split(":")[0] for note in result["notes"]] == [
        "the model has no bin",
        f"the ground truth has no {last}",
    ]
    assert last not in {entry["name"] for entry in result["classes"]} and result["labelled_frames"] == FRAMES
    capsys.readouterr()

    (tmp_path / "none.yaml").write_text("classes:\n  - {id: 0, name: x, color: [0, 0, 0]}\n")
    assert main([*given, "--truth-classes", str(tmp_path / "none.yaml")]) == 2
    assert "have no name in common" in capsys.readouterr().err
    assert main(["compare", model, model, "--truth-classes", str(classes), "--dataset", "street"]) == 2
    assert "--truth-classes is of a bag; give --bag as well" in capsys.readouterr().err
