"""SUN RGB-D, a user's own folder, and opening by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dataset_layouts import blocks, image, palette_png, write

from rt_segmentation import cli
from rt_segmentation.data.dataset import DatasetError
from rt_segmentation.data.folder import Folder
from rt_segmentation.data.registry import DATASETS, assumed, open_dataset, options_for
from rt_segmentation.data.street_dataset import TRAINING_SEED, Street
from rt_segmentation.data.sunrgbd import SunRgbd
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


def test_images_of_all_kinds_are_found_and_two_of_one_name_are_told(tmp_path: Path, site: Path) -> None:
    for name in ("a.tif", "b.webp", "c.BMP", "d.jpg"):
        write(tmp_path / "train/images" / name, image(1))
        write(tmp_path / "train/labels" / f"{name[0]}.png", blocks(0, range(2)))
    assert Folder(tmp_path, "train", site).names() == ["a", "b", "c", "d"]
    write(tmp_path / "train/images/a.jpg", image(2))
    # Which of the two was labelled is not known.
    with pytest.raises(DatasetError, match=r"1 image whose labels are another image's .* name: a.tif$"):
        Folder(tmp_path, "train", site)
    (tmp_path / "val/images").mkdir(parents=True)
    (tmp_path / "val/labels").mkdir()
    with pytest.raises(DatasetError, match=r"val/images has no images \(.bmp, .jpeg, .*\)"):
        Folder(tmp_path, "val", site)


def test_sunrgbd_pairs_train_images_with_the_labels_after_tests(tmp_path: Path) -> None:
    labels = {number: blocks(number, range(38)) for number in (1, 2, 5051, 5052, 5053)}
    for number, label in labels.items():
        write(tmp_path / "sunrgbd_train_test_labels" / f"img-{number:06d}.png", label)
    for split, count in (("test", 2), ("train", 3)):
        for i in range(1, count + 1):
            write(tmp_path / f"SUNRGBD-{split}_images" / f"img-{i:06d}.jpg", image(i))
    for split, offset, count in (("test", 0, 2), ("train", 5050, 3)):
        dataset = SunRgbd(tmp_path, split)
        assert len(dataset) == count
        for i in range(count):
            stored = labels[i + 1 + offset].astype(int)
            np.testing.assert_array_equal(dataset[i].labels, np.where(stored == 0, 255, stored - 1))
    (tmp_path / "sunrgbd_train_test_labels/img-005052.png").unlink()
    with pytest.raises(DatasetError, match=r"lacks 1 label: img-005052.png"):
        SunRgbd(tmp_path, "train")


def test_sunrgbd_in_sorted_folders(tmp_path: Path) -> None:
    write(tmp_path / "images/train/a.jpg", image(0))
    write(tmp_path / "labels/train/a.png", np.full((48, 64), 37, np.uint8))
    dataset = SunRgbd(tmp_path, "train")
    assert (dataset[0].labels == 36).all() and dataset.label_set.names[36] == "bag"
    write(tmp_path / "labels/train/a.png", np.full((48, 64), 38, np.uint8))
    with pytest.raises(DatasetError, match=r"a.png has id 38 \(3072 pixels\); its ids are 0 to 37"):
        dataset[0]
    with pytest.raises(DatasetError, match=r"sunrgbd_train_test_labels or .* should exist"):
        SunRgbd(tmp_path, "test")
    with pytest.raises(DatasetError, match="no split 'val'; there are train, test"):
        SunRgbd(tmp_path, "val")


@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [("val/images", "val/labels", "val"), ("images/val", "labels/val", "val"), ("images", "labels", "")],
)
def test_folder_reads_ids_and_colours(
    tmp_path: Path, site: Path, images: str, labels: str, split: str
) -> None:
    truth = blocks(1, (0, 1, 255))
    palette = load_label_set(site).palette()
    for name in ("gray", "color", "palette"):
        write(tmp_path / images / f"{name}.png", image(2))
    write(tmp_path / labels / "gray.png", truth)
    write(tmp_path / labels / "color.png", palette[truth])
    # The file's colours are in another order than the label set's.
    numbers = np.where(truth == 255, 0, truth + np.uint8(1)).astype(np.uint8)
    stored = palette_png(numbers, 8, np.vstack([np.zeros((1, 3)), palette[:2]]))
    (tmp_path / labels / "palette.png").write_bytes(stored)
    dataset = Folder(tmp_path, split, site, ignore=[[0, 0, 0]])
    assert len(dataset) == 3
    for sample in (dataset[i] for i in range(3)):
        np.testing.assert_array_equal(sample.labels, truth)


def test_folder_names_unknown_colours_and_ids(tmp_path: Path, site: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "images" / f"{name}.png", image(0))
    mask = np.zeros((48, 64, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    mask[0, :5] = (7, 8, 9)
    write(tmp_path / "labels/a.png", mask)
    write(tmp_path / "labels/b.png", np.full((48, 64), 2, np.uint8))
    write(tmp_path / "labels/c.png", np.zeros((40, 64), np.uint8))
    dataset = Folder(tmp_path, "", site)
    with pytest.raises(
        DatasetError, match=r"1 colour of no class: \(7, 8, 9\) \(5 pixels\); where .* ignore=\[\[7,8,9\]\]$"
    ):
        dataset[0]
    with pytest.raises(
        DatasetError, match=r"b.png has id 2 \(3072 pixels\); its ids are 0 to 1, 255; where .* ignore=\[2\]$"
    ):
        dataset[1]
    with pytest.raises(DatasetError, match=r"c.png is 64x40 \(width x height\), its image 64x48"):
        dataset[2]
    for ignore in ([2], 2):
        assert (Folder(tmp_path, "", site, ignore=ignore)[1].labels == 255).all()
    assert (Folder(tmp_path, "", site, ignore=[[7, 8, 9]])[0].labels[0, :5] == 255).all()
    # A black frame may be ids in three channels, and may have no label at all.
    write(tmp_path / "labels/c.png", np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"save the masks with one channel; .* ignore=\[\[0,0,0\]\]$"):
        dataset[2]


def test_all_that_is_wrong_with_a_frame_is_named(tmp_path: Path, site: Path) -> None:
    write(tmp_path / "images/a.png", image(0))
    (tmp_path / "images/a.png").write_bytes(b"no image")
    write(tmp_path / "labels/a.png", np.full((48, 64), 9, np.uint8))
    with pytest.raises(DatasetError, match=r"images/a.png is not an image.*; .*labels/a.png has id 9"):
        Folder(tmp_path, "", site)[0]


def test_many_missing_labels_are_counted(tmp_path: Path, site: Path) -> None:
    for i in range(25):
        write(tmp_path / "images" / f"{i:02d}.png", image(0))
    write(tmp_path / "labels/00.png", np.zeros((48, 64), np.uint8))
    with pytest.raises(DatasetError, match=r"lacks 24 labels: 01.png, .*20.png … and 4 more"):
        Folder(tmp_path, "", site)


def test_folder_refuses_what_cannot_be_told_apart(tmp_path: Path) -> None:
    write(tmp_path / "images/a.png", image(0))
    write(tmp_path / "labels/a.png", np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(DatasetError, match="'unlabeled' and 'ego vehicle' of cityscapes34 have one colour"):
        Folder(tmp_path, "", "cityscapes34")[0]
    wrongs: list[Any] = [
        [70000],
        [[300, 0, 0]],
        [[1, 2]],
        ["black"],
        "black",
        None,
        0.5,
        True,
        [[True]],
        {"a": 1},
    ]
    for wrong in wrongs:
        with pytest.raises(DatasetError, match="ignore has"):
            Folder(tmp_path, "", "camvid11", ignore=wrong)
    with pytest.raises(DatasetError, match=r"no labels: .*night/labels or .*labels/night should exist"):
        Folder(tmp_path, "night", "camvid11")
    with pytest.raises(DatasetError, match=r"folder .*nowhere does not exist"):
        Folder(tmp_path / "nowhere", "", "camvid11")


def test_without_a_split_no_folder_outside_the_root_is_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for kind in ("folder", "camvid"):
        with pytest.raises(DatasetError, match="no labels") as caught:
            open_dataset(kind, tmp_path / "empty", "", {"label_set": "camvid11"})
        tried = [word.rstrip(",") for word in str(caught.value).split() if word.startswith("/")]
        assert tried
        assert all(word.startswith(str(tmp_path)) for word in tried)


def test_sixteen_bit_labels_are_ids_if_they_can_be(tmp_path: Path, site: Path) -> None:
    truth = blocks(1, (0, 1, 255))
    deep = truth.astype(np.uint16)
    wrong = np.full((48, 64), 300, np.uint16)
    for name, stored in (
        ("a", deep),
        ("b", wrong),
        ("c", np.dstack([deep] * 3)),
        ("d", np.dstack([wrong, deep, deep])),
    ):
        write(tmp_path / "images" / f"{name}.png", image(0))
        write(tmp_path / "labels" / f"{name}.png", stored)
    dataset = Folder(tmp_path, "", site)
    for index in (0, 2):
        np.testing.assert_array_equal(dataset[index].labels, truth)
    with pytest.raises(DatasetError, match=r"d.png .* are 16-bit colours"):
        dataset[3]
    with pytest.raises(DatasetError, match=r"b.png .* numbers from 300 to 300; class ids are 0 to 254"):
        dataset[1]


def test_gray_labels_of_more_than_one_channel_are_ids(tmp_path: Path, site: Path) -> None:
    truth = blocks(1, (0, 1, 255))
    opaque = np.full_like(truth, 255)
    for name in "abcd":
        write(tmp_path / "images" / f"{name}.png", image(0))
    write(tmp_path / "labels" / "a.png", np.dstack([truth] * 3))
    # With alpha, in OpenCV's order of channels.
    assert cv2.imwrite(str(tmp_path / "labels" / "b.png"), np.dstack([*[truth] * 3, opaque]))
    grays = np.repeat(np.arange(256)[:, None], 3, 1)
    (tmp_path / "labels" / "c.png").write_bytes(palette_png(truth, 8, grays))
    # Which are the ids, the numbers 0 and 1 or the colours 0 and 255, is not known.
    numbers = np.minimum(truth, 1).astype(np.uint8)
    (tmp_path / "labels" / "d.png").write_bytes(palette_png(numbers, 8, grays[[0, 255]]))
    dataset = Folder(tmp_path, "", site)
    for index in range(3):
        np.testing.assert_array_equal(dataset[index].labels, truth)
    with pytest.raises(DatasetError, match="either could be the ids"):
        dataset[3]
    # An id of no class is told as such.
    write(tmp_path / "labels" / "a.png", np.full((48, 64, 3), 7, np.uint8))
    with pytest.raises(DatasetError, match=r"a.png has id 7 \(3072 pixels\); its ids are 0 to 1, 255"):
        dataset[0]


def test_labels_of_lossless_webp_are_read(tmp_path: Path, site: Path) -> None:
    truth = blocks(1, (0, 1, 255))
    write(tmp_path / "images/a.jpg", image(0))
    (tmp_path / "labels").mkdir()
    # Above 100 OpenCV writes without loss.
    assert cv2.imwrite(
        str(tmp_path / "labels/a.webp"), np.dstack([truth] * 3), [cv2.IMWRITE_WEBP_QUALITY, 101]
    )
    np.testing.assert_array_equal(Folder(tmp_path, "", site)[0].labels, truth)
    assert cv2.imwrite(
        str(tmp_path / "labels/a.webp"), np.dstack([truth] * 3), [cv2.IMWRITE_WEBP_QUALITY, 90]
    )
    with pytest.raises(DatasetError, match="lossy WebP, which changes ids"):
        Folder(tmp_path, "", site)[0]
    # Beside PNGs it is no label, but may be what was meant.
    write(tmp_path / "images/b.jpg", image(0))
    write(tmp_path / "labels/b.png", truth)
    with pytest.raises(DatasetError, match=r"lacks 1 label: a.png; it has a.webp$"):
        Folder(tmp_path, "", site)


def test_labels_of_other_names_are_named(tmp_path: Path, site: Path) -> None:
    write(tmp_path / "images/a.png", image(0))
    for name in ("a_mask.png", "a.tif", "b_mask.png", "c_mask.png"):
        write(tmp_path / "labels" / name, blocks(1, (0, 1)))
    with pytest.raises(DatasetError, match=r"lacks 1 label: a.png; it has a.tif, a_mask.png, b_mask.png …$"):
        Folder(tmp_path, "", site)


def test_a_palette_of_other_colours_is_told_how_its_numbers_are_read(tmp_path: Path, site: Path) -> None:
    """As VOC's, whose numbers are the ids."""
    truth = blocks(1, (0, 1, 255))
    voc = np.zeros((256, 3), int)
    voc[1], voc[255] = (128, 0, 0), (224, 224, 192)
    write(tmp_path / "images/a.png", image(0))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.png").write_bytes(palette_png(truth, 8, voc))
    with pytest.raises(
        DatasetError, match=r"numbers of its palette are the ids, 'rt_seg dataset import png'"
    ):
        Folder(tmp_path, "", site)[0]
    out = tmp_path / "ids"
    command = ["dataset", "import", "png", str(tmp_path / "labels"), "--label-set", str(site)]
    assert cli.main([*command, "--out", str(out), "--images", str(tmp_path / "images")]) == 0
    np.testing.assert_array_equal(Folder(out, "", site)[0].labels, truth)
    # Numbers of no class, and colours without a palette, are none.
    (tmp_path / "labels/a.png").write_bytes(palette_png(truth + np.uint8(2), 8, voc[::-1]))
    with pytest.raises(DatasetError) as caught:
        Folder(tmp_path, "", site)[0]
    assert "import png" not in str(caught.value)


def test_sixteen_bit_labels_may_have_a_number_for_unlabelled(tmp_path: Path, site: Path) -> None:
    truth = blocks(1, (0, 1, 255))
    deep = truth.astype(np.uint16)
    deep[truth == 255] = 65535
    write(tmp_path / "images/a.png", image(0))
    write(tmp_path / "labels/a.png", deep)
    with pytest.raises(DatasetError, match=r"where 65535 is unlabelled, give the option ignore=\[65535\]$"):
        Folder(tmp_path, "", site)[0]
    np.testing.assert_array_equal(Folder(tmp_path, "", site, ignore=[65535])[0].labels, truth)
    deep[truth == 0] = 4711
    write(tmp_path / "labels/a.png", deep)
    with pytest.raises(DatasetError) as caught:
        Folder(tmp_path, "", site)[0]
    assert "ignore" not in str(caught.value), "several are no ids"


def test_opening_by_name(tmp_path: Path, site: Path) -> None:
    write(tmp_path / "images/a.png", image(0))
    write(tmp_path / "labels/a.png", np.zeros((48, 64), np.uint8))
    dataset = open_dataset("folder", tmp_path, options={"label_set": str(site)})
    assert isinstance(dataset, Folder) and len(dataset) == 1
    street = open_dataset("street", options={"scenes": 2, "frames_per_scene": 3, "first_seed": 5})
    assert isinstance(street, Street) and len(street) == 6
    assert len(open_dataset("street", split="val", options={"scenes": 1})) == 2


def test_no_street_for_measuring_is_trained_on() -> None:
    from rt_segmentation.data.registry import STREET_SPLITS

    assert STREET_SPLITS["val"]["first_seed"] + STREET_SPLITS["val"]["scenes"] <= TRAINING_SEED


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("kitti", {}, "unknown data set 'kitti'; there are camvid, cityscapes, sunrgbd, folder, street"),
        ("sunrgbd", {"classes": 13}, "data set sunrgbd has no option 'classes'; it has image_bits"),
        ("camvid", {"labels": 1}, "no option 'labels'; it has label_set"),
        ("folder", {}, "needs the option label_set"),
        ("folder", {"label_set": "nothing"}, "data set folder: unknown label set 'nothing'"),
        ("street", {"scenes": 1}, "data set street: "),
    ],
)
def test_wrong_requests_are_named(tmp_path: Path, name: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        open_dataset(name, tmp_path, "", options)


def test_root_is_required_but_for_the_street() -> None:
    for name, kind in DATASETS.items():
        if kind.needs_root and not kind.any_label_set:
            with pytest.raises(DatasetError, match=f"data set {name} needs its folder; give --data-root"):
                open_dataset(name, None, "val")
    with pytest.raises(DatasetError, match="the street has no split 'night'"):
        open_dataset("street", None, "night")


def test_a_model_chooses_the_classes_where_it_can() -> None:
    assert options_for("cityscapes", load_label_set("cityscapes34")) == {"label_set": "cityscapes34"}
    assert options_for("cityscapes", load_label_set("camvid11")) == {}
    assert options_for("street", load_label_set("camvid11")) == {}
    labels = load_label_set("sunrgbd37")
    assert options_for("folder", labels) == {"label_set": labels}


def test_it_is_said_whose_classes_ids_are_taken_for() -> None:
    labels = load_label_set("sunrgbd37")
    assert "data set 'folder' are taken for classes of label set 'sunrgbd37'" in assumed("folder", labels, {})
    assert assumed("folder", labels, {"label_set": "camvid11"}) == assumed("camvid", labels, {}) == ""
