"""Files of data sets as other people's computers name them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from support.dataset_layouts import blocks, grey_png, image, write

from rt_segmentation.data.camvid import CamVid
from rt_segmentation.data.class_folders import ClassFolders
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.data.folder import Folder
from rt_segmentation.data.sources import FolderSource
from rt_segmentation.files import FilesByName, files_in
from rt_segmentation.inference.parity import images_in
from rt_segmentation.labels import load_label_set

SITE = """
name: site
classes:
  - {id: 0, name: floor, color: [10, 20, 30]}
  - {id: 1, name: rack, color: [200, 0, 0]}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def add_clutter(folder: Path) -> None:
    """What a Mac and a file browser leave behind, and what is no file."""
    (folder / "._0000.png").write_bytes(b"\x00\x05\x16\x07")
    (folder / "thumbs.png").mkdir()
    (folder / "notes.txt").write_text("not an image")
    (folder / "device.png").symlink_to(os.devnull)


def test_upper_case_suffixes_hidden_files_and_folders(tmp_path: Path, site: Path) -> None:
    truth = blocks(0, (0, 1))
    for number, suffix in enumerate((".PNG", ".png", ".Png")):
        write(tmp_path / "images" / f"{number:04}.png", image(number))
        write(tmp_path / "labels" / f"{number:04}.png", truth)
        for part in ("images", "labels"):
            file = tmp_path / part / f"{number:04}.png"
            file.rename(file.with_suffix(suffix))
    for part in ("images", "labels"):
        add_clutter(tmp_path / part)
    dataset = Folder(tmp_path, "", site)
    assert len(dataset) == 3 and not dataset.unpaired
    np.testing.assert_array_equal(dataset[0].labels, truth)
    assert len(images_in(tmp_path / "images")) == 3
    source = FolderSource(tmp_path / "images", tmp_path / "labels")
    assert len(source) == 3
    assert all(np.array_equal(found.labels, truth) for found in source if found.labels is not None)
    assert source.skipped == 0


def test_clutter_is_in_no_class(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "train" / name / "0.png", image(0))
        add_clutter(tmp_path / "train" / name)
    assert len(ClassFolders(tmp_path, "train")) == 2


def test_accents_may_be_written_in_two_ways(tmp_path: Path, site: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Straßenzüge") for form in ("NFC", "NFD"))
    assert composed != decomposed
    write(tmp_path / "images" / f"{composed}.png", image(0))
    write(tmp_path / "labels" / f"{decomposed}.png", np.zeros((48, 64), np.uint8))
    assert len(Folder(tmp_path, "", site)) == 1
    source = FolderSource(tmp_path / "images", tmp_path / "labels")
    assert [found.labels is not None for found in source] == [True]


def test_the_exact_name_goes_first(tmp_path: Path, site: Path) -> None:
    for name in ("a.PNG", "a.png"):
        (tmp_path / name).write_bytes(b"")
    files = files_in(tmp_path, (".png",))
    if len(files) == 1:
        pytest.skip("this file system does not tell upper from lower case")
    found = FilesByName(files)
    assert [found.find(name) for name in ("a.PNG", "a.png")] == files
    assert found.find("a.pNg") in files and found.find("b.png") is None


def test_a_dangling_link_is_not_passed_over(tmp_path: Path, site: Path) -> None:
    write(tmp_path / "labels/a.png", np.zeros((48, 64), np.uint8))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DatasetError, match=r"a.png is not an image .* cannot be read: No such file"):
        Folder(tmp_path, "", site)[0]


def test_ids_as_colours_are_read_where_only_ids_can_be_meant(tmp_path: Path) -> None:
    ids = blocks(3, range(12))
    write(tmp_path / "train" / "a.png", image(0))
    write(tmp_path / "trainannot" / "a.png", np.repeat(ids[..., None], 3, -1))
    np.testing.assert_array_equal(CamVid(tmp_path, "train")[0].labels, np.where(ids == 11, 255, ids))


def test_ids_as_colours_are_refused_with_a_hint_where_colours_may_be_meant(
    tmp_path: Path, site: Path
) -> None:
    """A class or what is ignored may have a gray colour; without any, gray can only be ids."""
    truth = blocks(3, (0, 1))
    write(tmp_path / "images/a.png", image(0))
    write(tmp_path / "labels/a.png", np.repeat(truth[..., None], 3, -1))
    np.testing.assert_array_equal(Folder(tmp_path, "", site)[0].labels, truth)
    with pytest.raises(
        DatasetError,
        match=r"colour of no class: .*; if R = G = B is the id, save the masks with one channel$",
    ):
        Folder(tmp_path, "", site, ignore=[[0, 0, 0]])[0]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_label_files_of_few_bits_have_their_ids(bits: int, tmp_path: Path, site: Path) -> None:
    truth = blocks(3, (0, 1))
    write(tmp_path / "images/a.png", image(0))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.png").write_bytes(grey_png(truth, bits))
    np.testing.assert_array_equal(Folder(tmp_path, "", site)[0].labels, truth)


def test_camvid_as_kaggle_has_it(tmp_path: Path) -> None:
    palette = load_label_set("camvid32").palette()
    for split, name in (("train", "0001TP_006690"), ("test", "Seq05VD_f00000")):
        write(tmp_path / split / f"{name}.png", image(0))
        write(tmp_path / f"{split}_labels" / f"{name}_L.png", palette[blocks(0, range(32))])
    np.testing.assert_array_equal(CamVid(tmp_path, "train", "camvid32")[0].labels, blocks(0, range(32)))
    merged = CamVid(tmp_path, "test")[0].labels
    assert set(np.unique(merged)) <= {*range(11), 255} and (merged != 255).any()
    with pytest.raises(DatasetError, match=r"val_labels"):
        CamVid(tmp_path, "val")
