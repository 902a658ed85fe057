"""Groups of classes: those of the package and a user's own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rt_segmentation.groups import GroupsError, groups_names, load_groups
from rt_segmentation.labels import load_label_set

CAMVID = load_label_set("camvid11")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "robot.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", groups_names())
@pytest.mark.parametrize("label_set", ["camvid11", "cityscapes19"])
def test_the_packages_groups_hold_every_class_of_a_road_scene(name: str, label_set: str) -> None:
    labels = load_label_set(label_set)
    grouping = load_groups(name).of(labels)
    assert (grouping.lookup[: len(labels.classes)] < len(grouping.label_set.classes)).all()
    assert (grouping.lookup[len(labels.classes) :] == 255).all()


def test_categories_are_those_of_cityscapes() -> None:
    labels, seven = load_label_set("cityscapes19"), load_label_set("cityscapes_categories7")
    grouping = load_groups("categories").of(labels)
    assert grouping.label_set.names == seven.names
    assert [c.color for c in grouping.label_set.classes] == [c.color for c in seven.classes]
    for c in labels.classes:
        assert seven.names[grouping.lookup[c.id]] == c.category


def test_two_label_sets_come_to_the_same_groups() -> None:
    groups = load_groups("categories")
    camvid, cityscapes = groups.of(CAMVID), groups.of(load_label_set("cityscapes19"))
    assert camvid.label_set.classes == cityscapes.label_set.classes


def test_ids_follow_the_file_and_classes_of_no_group_are_unlabelled(tmp_path: Path) -> None:
    path = written(
        tmp_path, "groups:\n  ground: [Road, Pavement]\n  people: {classes: [Pedestrian], color: [1, 2, 3]}\n"
    )
    grouping = load_groups(path).of(CAMVID)
    assert grouping.label_set.name == "camvid11/robot"
    assert [(c.id, c.name, c.color) for c in grouping.label_set.classes] == [
        (0, "ground", (128, 64, 128)),
        (1, "people", (1, 2, 3)),
    ]
    labels = np.array([[3, 4, 9, 0, 255]], np.uint8)
    assert grouping.apply(labels).tolist() == [[0, 0, 1, 255, 255]]
    assert grouping.apply(labels).dtype == np.uint8


def test_names_may_be_of_any_language(tmp_path: Path) -> None:
    path = written(tmp_path, "name: 走行\ngroups: {走れる　所: [Road], Fußgänger: [Pedestrian]}")
    grouping = load_groups(path).of(CAMVID)
    assert grouping.label_set.name == "camvid11/走行"
    assert grouping.label_set.names == ("走れる　所", "Fußgänger")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups: [Road]", "'groups' must map"),
        ("groups: {}", "'groups' must map"),
        ("other: {}", "'groups' must map"),
        ("groups: {ground: Road}", "'ground' must be a list of class names, it is 'Road'"),
        ("groups: {ground: []}", "must be a list"),
        ("groups: {ground: [3]}", "must be a list"),
        (
            "groups: {ground: [Raod]}",
            "the class 'Raod', which label set 'camvid11' does not have; did you mean",
        ),
        ("groups: {ground: [Lava]}", "the class 'Lava'"),
        ("groups: {ground: [road]}", "'ground' has no class of label set 'camvid11'"),
        ("groups: {a: [Road], b: [Sky, Road]}", "class 'Road' is in 'a' and in 'b'"),
        ("groups: {a: {classes: [Road], colour: [1, 2, 3]}}", "has the key 'colour'"),
        ("groups: {a: {classes: [Road], color: [1, 2, 300]}}", "must be [R, G, B]"),
        ("groups: {a: {classes: [Road], color: red}}", "must be [R, G, B]"),
        ("groups: {a: [Road", "cannot be read"),
        ("groups: {a: [Road], a: [Sky]}", "cannot be read: key 'a' stands in it twice"),
        ("- Road", "is not a mapping of keys to values"),
        ('groups: {"": [Road]}', "a group's name is ''; it must be a text of one line, not empty"),
        ('groups: {" ": [Road]}', "a group's name is ' '; it must be a text of one line"),
        ('groups: {"a\\nb": [Road]}', r"a group's name is 'a\nb'; it must be a text of one line"),
        ("groups: {yes: [Road]}", "a group's name is True; it must be a text: put it in quotes"),
        ("groups: {1: [Road]}", "a group's name is 1; it must be a text: put it in quotes"),
        ("name: 5\ngroups: {a: [Road]}", "its name is 5; it must be a text"),
        ('name: "a\\tb"\ngroups: {a: [Road]}', r"its name is 'a\tb'; it must be a text of one line"),
        ("groups: {a: [Road]}\ncolors: {a: [1, 2, 3]}", "unknown key 'colors'; there are name, groups"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(GroupsError) as error:
        load_groups(written(tmp_path, text)).of(CAMVID)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("drivnig", "unknown groups 'drivnig'"),
        ("x" * 300, "unknown groups 'xxx"),
        ("~nobody-of-that-name/x.yaml", "~nobody-of-that-name/x.yaml does not exist"),
        ("../driving", "unknown groups '../driving'"),
        ("dri\nving", r"unknown groups 'dri\nving'"),
        ("missing.yaml", "groups missing.yaml does not exist"),
    ],
)
def test_groups_that_are_not_there(name: str, sentence: str) -> None:
    with pytest.raises(GroupsError, match=re.escape(sentence)):
        load_groups(name)
