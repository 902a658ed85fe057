"""Label sets: those of the package and a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rt_segmentation.labels import LabelSetError, label_set_names, load_label_set
from rt_segmentation.models import find_model

GOOD = """
name: two
classes:
  - {id: 0, name: floor, color: [1, 2, 3], category: flat}
  - {id: 1, name: wall, color: [4, 5, 6]}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "set.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "count"), [("camvid11", 11), ("cityscapes19", 19), ("cityscapes20", 20)])
def test_sets_of_the_package(name: str, count: int) -> None:
    labels = load_label_set(name)
    assert labels.name == name
    assert len(labels.classes) == len(set(labels.names)) == count
    assert [c.id for c in labels.classes] == list(range(count))
    assert len({c.color for c in labels.classes}) == count


def test_cityscapes20_is_unlabelled_and_then_the_train_ids() -> None:
    train_ids, outputs = load_label_set("cityscapes19"), load_label_set("cityscapes20")
    assert outputs.names[0] == "unlabeled"
    assert outputs.names[1:] == train_ids.names
    assert [c.color for c in outputs.classes[1:]] == [c.color for c in train_ids.classes]


def test_camvid_colours_are_the_published_ones() -> None:
    colours = {c.name: c.color for c in load_label_set("camvid11").classes}
    assert colours["Road"] == (128, 64, 128)
    assert colours["Bicyclist"] == (0, 128, 192)


def test_every_set_of_the_package_loads() -> None:
    assert {"camvid11", "cityscapes19", "cityscapes20"} <= set(label_set_names())
    for name in label_set_names():
        load_label_set(name)


def test_a_users_file(tmp_path: Path) -> None:
    labels = load_label_set(written(tmp_path, GOOD))
    assert labels.name == "two"
    assert labels.names == ("floor", "wall")
    assert [c.category for c in labels.classes] == ["flat", "wall"]


def test_palette_has_a_colour_for_every_id_and_black_elsewhere(tmp_path: Path) -> None:
    palette = load_label_set(written(tmp_path, GOOD)).palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert palette[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert not palette[2:].any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "is not a mapping"),
        ("classes: {a: 1}", "'classes' is {'a': 1}, it must be a list"),
        ("classes: []", "0 classes"),
        ("classes: [", "cannot be read"),
        (GOOD.replace("id: 1", "id: 2"), "id is 2, not 1"),
        (GOOD.replace("wall", "floor"), "'floor' twice"),
        (GOOD.replace("[4, 5, 6]", "[4, 5, 256]"), "'wall': colours go from 0 to 255"),
        (
            GOOD.replace("color: [4, 5, 6]", "colour: red"),
            "unknown key 'classes[1].colour'; there are id",
        ),
        (
            GOOD.replace("color: [4, 5, 6]", "color: [4, 5]"),
            "'classes[1].color' has 2 entries",
        ),
        (GOOD.replace("wall", '""'), "the name of class 1 is ''; it must be a text of one line, not empty"),
        (
            GOOD.replace("wall", '"wa\\nll"'),
            r"the name of class 1 is 'wa\nll'; it must be a text of one line",
        ),
        (GOOD.replace("two", '"a\\nb"'), r"its name is 'a\nb'; it must be a text of one line"),
        ("classes: [road, car]", "'classes[0]' is 'road', it must be a mapping"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LabelSetError) as caught:
        load_label_set(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_more_classes_than_ids_fit_is_refused(tmp_path: Path) -> None:
    entries = "\n".join(f"  - {{id: {i}, name: c{i}, color: [0, 0, 0]}}" for i in range(256))
    with pytest.raises(LabelSetError, match="256 classes"):
        load_label_set(written(tmp_path, f"classes:\n{entries}"))


@pytest.mark.parametrize("name", ["camvid", "", "../labels/camvid11", "/etc/passwd"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(LabelSetError) as caught:
        load_label_set(name)
    assert "camvid11, camvid32, cityscapes19" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelSetError, match=r"nothing\.yaml"):
        load_label_set(tmp_path / "nothing.yaml")


def test_the_page_of_models_names_the_classes_of_the_shipped_ones() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "models.md"
    text = " ".join(page.read_text(encoding="utf-8").split())
    for model in ("enet", "lednet", "linknet"):
        labels = find_model(model).labels()
        assert f"| `{labels.name}` |" in text
        assert f"from id 0: {', '.join(c.name for c in labels.classes)}." in text
