"""Groups where they are used: labels that are handed out, and scores of models and data of other classes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from support.models import save_untrained

from rt_segmentation import Segmenter
from rt_segmentation.commands import evaluate
from rt_segmentation.data.grouped import Grouped
from rt_segmentation.data.street_dataset import Street
from rt_segmentation.evaluation.bag.job import Models
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.groups import GroupsError, load_groups
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelManifest

GROUPS = load_groups("categories")
CAMVID, CITYSCAPES = load_label_set("camvid11"), load_label_set("cityscapes19")


@pytest.fixture
def cityscapes_model(tmp_path: Path) -> ModelManifest:
    pytest.importorskip("torch")
    from rt_segmentation.networks import build_network

    return save_untrained(
        tmp_path / "city.yaml", build_network("enet", 19).eval(), "enet", (64, 64), "cityscapes19"
    )


def test_labels_are_the_lookup_of_the_networks(cityscapes_model: ModelManifest) -> None:
    plain = Segmenter(cityscapes_model, "torch", "fp32")
    grouped = Segmenter(cityscapes_model, "torch", "fp32", groups="categories")
    assert grouped.label_set.names == GROUPS.of(CAMVID).label_set.names
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    classes, groups = plain(image), grouped(image)
    lookup = GROUPS.of(CITYSCAPES).lookup
    assert np.array_equal(groups.labels, lookup[classes.labels])
    assert groups.answer is not None
    assert np.array_equal(groups.answer.labels, classes.labels)
    assert groups.answer.label_set.names == CITYSCAPES.names
    assert groups.label_set is grouped.label_set
    assert {tuple(color) for color in groups.colorize().reshape(-1, 3)} <= {
        c.color for c in grouped.label_set.classes
    }


def test_groups_that_are_not_the_models_are_refused(cityscapes_model: ModelManifest, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("groups: {ground: [Road]}")
    with pytest.raises(GroupsError, match="'ground' has no class of label set 'cityscapes19'"):
        Segmenter(cityscapes_model, groups=path)


def test_a_data_set_in_groups_is_its_labels_looked_up() -> None:
    street = Street(2, 1, 100, 96, 64)
    grouping = GROUPS.of(street.label_set)
    grouped = Grouped(street, grouping)
    assert len(grouped) == 2
    assert grouped.label_set.names == GROUPS.of(CITYSCAPES).label_set.names
    assert np.array_equal(grouped[1].labels, grouping.lookup[street[1].labels])


def test_a_model_of_one_label_set_is_scored_on_data_of_another(
    cityscapes_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = argparse.Namespace(
        model=str(cityscapes_model.path),
        dataset="street",
        data_root=None,
        split="",
        option=["scenes=2", "frames_per_scene=1", "first_seed=100", "width=64", "height=64"],
        engine="torch",
        precision="fp32",
        groups="categories",
        json=tmp_path / "e.json",
        pictures=None,
    )
    evaluate.main(given)
    assert "in groups categories, 2 frames" in capsys.readouterr().out
    result = json.loads(given.json.read_text())
    assert result["groups"] == "categories"
    names = list(GROUPS.of(CITYSCAPES).label_set.names)
    assert list(result["class_iou"]) == names
    # The truth's rows: as many pixels of each group as the street has.
    street = Street(2, 1, 100, 64, 64)
    lookup = GROUPS.of(street.label_set).lookup
    truth = np.concatenate([lookup[street[i].labels].ravel() for i in range(2)])
    rows = np.bincount(truth[truth < 255], minlength=len(names))
    assert np.array(result["confusion_matrix"]).sum(1).tolist() == rows.tolist()
    with pytest.raises(EvaluationError, match="is not the data set's"):
        evaluate.main(argparse.Namespace(**{**vars(given), "groups": ""}))


def test_ids_of_a_bags_truth_become_groups(cityscapes_model: ModelManifest) -> None:
    models = Models(
        [str(cityscapes_model.path)], "torch", "fp32", groups="categories", truth_classes="camvid11"
    )
    assert models.labels.names == GROUPS.of(CAMVID).label_set.names
    truth, masks = models.id_tables([CAMVID.names.index("Sky")])
    stored = np.array([[0, CAMVID.names.index("Road"), CAMVID.names.index("Sky"), 200]], np.uint8)
    lookup = GROUPS.of(CAMVID).lookup
    assert truth(stored).tolist() == [[255, lookup[stored[0, 1]], 255, 255]]
    assert masks(np.array([[0, 6, 7, 255]], np.uint8)).tolist() == [[0, 6, 255, 255]]


def test_ids_of_a_bags_truth_become_the_models_classes_of_the_same_names(
    cityscapes_model: ModelManifest,
) -> None:
    models = Models([str(cityscapes_model.path)], "torch", "fp32", truth_classes="camvid11")
    truth, masks = models.id_tables([CAMVID.names.index("Sky")])
    names = ("Road", "Car", "Sky", "Tree")
    stored = np.array([[CAMVID.names.index(name) for name in names]], np.uint8)
    road, car, train = (CITYSCAPES.names.index(name) for name in ("road", "car", "train"))
    assert truth(stored).tolist() == [[road, car, 255, 255]]
    # No id of the truth is a train: it has no score.
    assert masks(np.array([[road, train]], np.uint8)).tolist() == [[road, 255]]
