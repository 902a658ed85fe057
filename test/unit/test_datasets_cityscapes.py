"""Cityscapes in its official folder layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.dataset_layouts import blocks, image, instances_of, make_cityscapes, write

from rt_segmentation.data.cityscapes import Cityscapes, label_ids_by_class
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.labels import load_label_set

NAMES = ("aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019")


@pytest.fixture
def labels() -> list[np.ndarray]:
    return [blocks(i, range(34)) for i in range(3)]


def test_train_ids_are_the_official_ones(tmp_path: Path, labels: list[np.ndarray]) -> None:
    official = pytest.importorskip(
        "cityscapesscripts.helpers.labels", reason="cityscapesscripts is not installed"
    )
    make_cityscapes(tmp_path, "train", NAMES, labels)
    dataset = Cityscapes(tmp_path, "train")
    assert len(dataset) == 3 and dataset.label_set.name == "cityscapes19"
    for i, name in enumerate(NAMES):
        sample = dataset[i]
        assert sample.name == name
        table = np.array([official.id2label[k].trainId for k in range(34)], np.uint8)
        np.testing.assert_array_equal(sample.labels, table[labels[i]])
        np.testing.assert_array_equal(sample.image, image(i))


def test_label_sets_of_the_package_are_the_official_tables() -> None:
    official = pytest.importorskip(
        "cityscapesscripts.helpers.labels", reason="cityscapesscripts is not installed"
    )
    for c in load_label_set("cityscapes34").classes:
        label = official.id2label[c.id]
        assert (c.name, c.color, c.category) == (label.name, label.color, label.category)
    for name in ("cityscapes19", "cityscapes19_void"):
        for c in load_label_set(name).classes[:19]:
            label = official.trainId2label[c.id]
            assert (c.name, c.color, c.category) == (label.name, label.color, label.category)
    assert load_label_set("cityscapes19_void").classes[19].category == "void"
    names = [c.name for c in load_label_set("cityscapes_categories7").classes]
    assert names == [category for category in official.category2labels if category != "void"]


def test_each_label_set_reads_the_same_files(tmp_path: Path, labels: list[np.ndarray]) -> None:
    make_cityscapes(tmp_path, "val", NAMES, labels)
    train_ids = Cityscapes(tmp_path, "val")[0].labels
    void = train_ids == 255
    assert void.any() and not void.all()
    raw = Cityscapes(tmp_path, "val", "cityscapes34")
    np.testing.assert_array_equal(raw[0].labels, labels[0])
    assert len(raw.ignored_ids) == 34 - 19
    first_void = Cityscapes(tmp_path, "val", "cityscapes20")
    np.testing.assert_array_equal(first_void[0].labels, np.where(void, 255, train_ids + 1))
    assert first_void.ignored_ids == {0}
    last_void = Cityscapes(tmp_path, "val", "cityscapes19_void")
    np.testing.assert_array_equal(last_void[0].labels, train_ids)
    assert last_void.ignored_ids == {19}
    by_category = Cityscapes(tmp_path, "val", "cityscapes_categories7")
    names = [c.category for c in load_label_set("cityscapes19").classes]
    expected = np.array([by_category.label_set.names.index(name) for name in names], np.uint8)
    np.testing.assert_array_equal(by_category[0].labels[~void], expected[train_ids[~void]])
    np.testing.assert_array_equal(by_category[0].labels == 255, void)


def test_classes_go_back_to_label_ids() -> None:
    table = label_ids_by_class(load_label_set("cityscapes19"))
    assert table[[0, 13, 18, 255]].tolist() == [7, 26, 33, 0]
    assert label_ids_by_class(load_label_set("cityscapes34"))[:34].tolist() == list(range(34))
    with pytest.raises(DatasetError, match="camvid11 has classes that are no labels of Cityscapes: Sky"):
        label_ids_by_class(load_label_set("camvid11"))


def test_coarse_labels_and_their_extra_split(tmp_path: Path, labels: list[np.ndarray]) -> None:
    make_cityscapes(tmp_path, "train_extra", NAMES, labels, "gtCoarse", with_instances=False)
    dataset = Cityscapes(tmp_path, "train_extra", "cityscapes34", annotation="coarse")
    np.testing.assert_array_equal(dataset[2].labels, labels[2])
    assert not dataset.has_instances
    with pytest.raises(DatasetError, match=r"instanceIds.png is not an image"):
        dataset.instances(0)


def test_instance_ids(tmp_path: Path, labels: list[np.ndarray]) -> None:
    make_cityscapes(tmp_path, "val", NAMES, labels)
    dataset = Cityscapes(tmp_path, "val")
    assert dataset.has_instances
    np.testing.assert_array_equal(dataset.instances(1), instances_of(labels[1], 1))
    path = tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_instanceIds.png"
    write(path, np.full((48, 64), 34000, np.uint16))
    with pytest.raises(DatasetError, match="has instance id 34000, of no label"):
        dataset.instances(2)


def test_test_split_has_no_labels(tmp_path: Path) -> None:
    write(tmp_path / "leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png", image(0))
    dataset = Cityscapes(tmp_path, "test")
    assert len(dataset) == 1 and not dataset.has_labels
    assert (dataset[0].labels == 255).all() and dataset[0].labels.shape == (48, 64)
    with pytest.raises(DatasetError, match="has no instance ids"):
        dataset.instances(0)


def test_missing_labels_of_all_cities_are_named_at_once(tmp_path: Path, labels: list[np.ndarray]) -> None:
    make_cityscapes(tmp_path, "val", (*NAMES, "bonn_000000_000019"), [*labels, labels[0]])
    (tmp_path / "gtFine/val/aachen/aachen_000001_000019_gtFine_labelIds.png").unlink()
    (tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DatasetError) as caught:
        Cityscapes(tmp_path, "val")
    assert "lacks 1 label: aachen_000001_000019_gtFine_labelIds.png" in str(caught.value)
    assert "ulm_000000_000019_gtFine_labelIds.png" in str(caught.value)
    rest = Cityscapes(tmp_path, "val", complete=False)
    assert [pair.name for pair in rest.pairs] == ["aachen_000000_000019", "bonn_000000_000019"]
    assert len(rest.unpaired) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "validation"}, "no fine split 'validation'; there are train, val, test"),
        ({"split": "train_extra"}, "no fine split 'train_extra'"),
        ({"split": "test", "annotation": "coarse"}, "no coarse split 'test'"),
        ({"split": "val", "annotation": "rough"}, "'fine' or 'coarse', not 'rough'"),
        ({"split": "val", "label_set": "camvid11"}, "no label set 'camvid11'; there are cityscapes19,"),
        ({"split": "val"}, "val does not exist"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        Cityscapes(tmp_path, **arguments)
