"""What annotation tools hand over: their order, names and packings, and files that are refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dataset_layouts import write
from support.exchange import CLASSES, SITE, back, needs_coco, noise

from rt_segmentation.cli import main
from rt_segmentation.data.exchange.brush import encode
from rt_segmentation.data.exchange.frames import ClassNames, ExchangeError, ExportOptions, LabelledFrame
from rt_segmentation.data.exchange.moving import export_labels


def city(tmp_path: Path, *objects: Any, name: str = "a_gtFine_polygons.json") -> Path:
    folder = tmp_path / "city"
    folder.mkdir(exist_ok=True)
    content = {"imgHeight": 40, "imgWidth": 40, "objects": list(objects)}
    (folder / name).write_text(json.dumps(content))
    return folder


SQUARE = [[4, 4], [13, 4], [13, 13], [4, 13]]


def test_unknown_labels_are_all_named_and_nothing_is_written(tmp_path: Path) -> None:
    folder = city(
        tmp_path,
        {"label": "Sky", "polygon": SQUARE},
        {"label": "dragon", "polygon": SQUARE},
        {"label": "troll", "polygon": SQUARE},
        {"label": "troll", "polygon": SQUARE},
        {"label": "skygroup", "polygon": SQUARE},
    )
    with pytest.raises(ExchangeError, match=r"2 labels that .* site lacks: 'troll' \(2 times\), 'dragon'"):
        back("cityscapes", folder)
    assert [p.name for p in tmp_path.iterdir()] == ["city"]
    names = ClassNames(SITE, {"troll": "road", "dragon": "unlabelled"})
    assert np.unique(back("cityscapes", folder, names)).tolist() == [3, 255]
    folder = city(tmp_path, {"label": "dragon", "polygon": SQUARE})
    names = ClassNames(SITE, accept_unknown=True)
    assert np.unique(back("cityscapes", folder, names)).tolist() == [255]
    assert names.unknown == {"dragon": 1}
    with pytest.raises(ExchangeError, match="'a' cannot become 'b', which is no class of label set site"):
        ClassNames(SITE, {"a": "b"})


def test_a_renamed_label_that_never_occurs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = city(tmp_path, {"label": "Sky", "polygon": SQUARE}, {"label": "troll", "polygon": SQUARE})
    classes = tmp_path / "site.yaml"
    classes.write_text(
        "name: x\nclasses: [{id: 0, name: road, color: [1, 1, 1]}, {id: 1, name: sky, color: [2, 2, 2]}]"
    )
    command = ["dataset", "import", "cityscapes", str(folder), "--label-set", str(classes)]
    renamed = [f"--map={text}" for text in ("troll=road", "skyy=road", "sky=sky")]
    assert not main([*command, "--out", str(tmp_path / "out"), *renamed])
    said = capsys.readouterr().out
    assert "note: --map 'skyy=road' changed nothing: no such label" in said
    assert said.count("note:") == 1


@needs_coco
def test_later_and_higher_shapes_cover_others(tmp_path: Path) -> None:
    shapes = [("sky", 2, 2, 20), ("road", 1, 5, 30), ("sky", 0, 0, 39)]
    text = "".join(
        f'<polygon label="{name}" z_order="{z}" points="{a},{a};{b},{a};{b},{b};{a},{b}"/>'
        for name, z, a, b in shapes
    )
    path = tmp_path / "a.xml"
    path.write_text(
        f'<annotations><image id="0" name="x/a.png" width="40" height="40">{text}<tag label="x"/></image>'
        "</annotations>"
    )
    expected = np.full((40, 40), 255, np.uint8)
    for value, a, b in ((3, 0, 39), (0, 5, 30), (3, 2, 20)):
        expected[a:b, a:b] = value
    np.testing.assert_array_equal(back("cvat", path), expected)


@needs_coco
def test_boxes_of_cvat_lie_as_they_are_turned(tmp_path: Path) -> None:
    """By 90 degrees a box stands; by 45, clockwise, its left end is up, also where it leaves the image."""
    lying, standing = (19, 23, 6, 36), (6, 36, 19, 23)
    path = tmp_path / "a.xml"

    def read(degrees: float, left: int = 6) -> np.ndarray:
        path.write_text(
            f'<annotations><image id="0" name="a.png" width="48" height="40"><box label="sky" xtl="{left}"'
            f' ytl="19" xbr="{left + 30}" ybr="23" rotation="{degrees:.2f}"/></image></annotations>'
        )
        return np.asarray(back("cvat", path) == 3)

    turns = ((0, lying), (90, standing), (180, lying), (-90, standing), (360, lying))
    for degrees, (top, bottom, left, right) in turns:
        wanted = np.zeros((40, 48), bool)
        wanted[top:bottom, left:right] = True
        np.testing.assert_array_equal(read(degrees), wanted)
    turned = read(45)
    rows, columns = np.nonzero(turned)
    assert abs(len(rows) - 120) < 15 and np.corrcoef(rows, columns)[0, 1] > 0.9
    assert 0 < np.count_nonzero(read(45, -15)) < 90


@needs_coco
def test_packed_run_lengths_of_coco(tmp_path: Path) -> None:
    from pycocotools import mask

    labels = noise(6)
    content: dict[str, Any] = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 40, "height": 34}],
        "categories": [{"id": c.id, "name": c.name} for c in CLASSES],
        "annotations": [],
    }
    for c in CLASSES:
        packed = mask.encode(np.asfortranarray(labels == c.id, np.uint8))
        packed["counts"] = packed["counts"].decode()
        content["annotations"].append(
            {"id": c.id, "image_id": 7, "category_id": c.id, "segmentation": packed}
        )
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    np.testing.assert_array_equal(back("coco", path), labels)
    good = content["annotations"][0]["segmentation"]
    for wrong, said in (
        ({"size": [34, 40], "counts": good["counts"] + "0"}, "sum of its packed run lengths"),
        ({"size": [34, 40], "counts": [1, 2]}, "run lengths are not whole numbers with the sum 1360"),
        ({"size": [40, 34], "counts": good["counts"]}, r"mask's size is \[40, 34\], its image's \[34, 40\]"),
        ([[1, 2, 3, 4]], "3 points"),
        ([["a"]], "list of numbers"),
        ([], "a box alone"),
    ):
        content["annotations"][0]["segmentation"] = wrong
        path.write_text(json.dumps(content))
        with pytest.raises(ExchangeError, match=rf"annotation 0 of a\.jpg: .*{said}"):
            back("coco", path)


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "x/../../a.png", "C:\\a.png", "..\\a.png", "", None]
)
def test_names_outside_the_folder_are_refused(name: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    image = {"id": 1, "file_name": name, "width": 40, "height": 40}
    path.write_text(json.dumps({"images": [image], "categories": [], "annotations": []}))
    with pytest.raises(ExchangeError, match=r"outside its folder|must be a file's name"):
        back("coco", path)
    if name:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(name, b"")
        with pytest.raises(ExchangeError, match="outside its folder"):
            back("png", tmp_path / "a.zip")
    assert not list(tmp_path.glob("back*"))


@pytest.mark.parametrize(
    "kind, file, content, said",
    [
        ("cvat", "a.xml", "<annotations>", "is not XML"),
        ("cvat", "a.xml", "<a/>", "not of CVAT for images 1.1"),
        ("cvat", "a.xml", "<annotations/>", "has no images"),
        (
            "cvat",
            "a.xml",
            '<annotations><image name="a.png" width="x" height="4"/></annotations>',
            "width 'x'",
        ),
        (
            "cvat",
            "a.xml",
            '<annotations><image name="a.png" width="40" height="40"><points/></image></annotations>',
            r"shape 1 \(points\) is no area",
        ),
        *(
            (
                "cvat",
                "a.xml",
                '<annotations><image name="a.png" width="40" height="40">'
                f'<{kind} label="sky" rotation="{rotation}"/></image></annotations>',
                said,
            )
            for kind, rotation, said in (
                ("polygon", "9.00", r"shape 1 \(polygon\) is rotated; CVAT rotates boxes alone"),
                ("mask", "x", "has the rotation 'x'; it must be a number"),
                ("box", "nan", "has the rotation 'nan'; it must be a number"),
            )
        ),
        (
            "cvat",
            "a.xml",
            '<annotations><image name="a.png" width="40" height="40"><mask label="sky" rle="1, 2" left="39"'
            ' top="0" width="2" height="2"/></image></annotations>',
            "not within its image, 40x40",
        ),
        (
            "cvat",
            "a.xml",
            '<annotations><image name="a.png" width="40" height="40"><mask label="sky" rle="1, 2" left="0"'
            ' top="0" width="2" height="2"/></image></annotations>',
            "whole numbers with the sum 4",
        ),
        ("coco", "a.json", "{", "is not JSON"),
        ("coco", "a.json", "[]", "no list 'images'"),
        (
            "coco",
            "a.json",
            '{"images": [{"id": []}], "categories": [], "annotations": []}',
            r"has the id \[\]",
        ),
        (
            "coco",
            "a.json",
            '{"images": [{"id": 1, "file_name": "a.png", "width": 99999, "height": 1}], "categories": [],'
            ' "annotations": []}',
            "a.png' is 99999x1 px; each side must be 1 to",
        ),
        (
            "coco",
            "a.json",
            '{"images": [], "categories": [], "annotations": [{"id": 5, "image_id": 3}]}',
            "annotation 5 is of the image 3, which is missing",
        ),
        (
            "coco",
            "a.json",
            '{"images": [], "annotations": [],'
            ' "categories": [{"id": 1, "name": "sky"}, {"id": 1, "name": "road"}]}',
            "two categories of the id 1, 'sky' and 'road'",
        ),
        ("label-studio", "a.json", "{}", "not a list of tasks"),
        ("label-studio", "a.json", '[{"data": {}}]', "has no image in its data"),
        ("label-studio", "a.json", '[{"data": {"image": "a.png"}}]', "has no labelled images"),
        ("cityscapes", "a.json", "{}", "no list 'objects'"),
        ("png", "a.txt", "", "has no label PNGs"),
        ("cvat-masks", "a.txt", "", r"has no file \*labelmap.txt"),
    ],
)
def test_a_wrong_file_is_named(kind: str, file: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(ExchangeError, match=said) as caught:
        back(kind, tmp_path / file)
    assert file in str(caught.value) and "\n" not in str(caught.value)


def test_images_come_along(tmp_path: Path) -> None:
    folder = city(tmp_path, {"label": "sky", "polygon": SQUARE})
    images = tmp_path / "images"
    (images / "x").mkdir(parents=True)
    with pytest.raises(ExchangeError, match=r"lacks 1 image that .* labels: a"):
        back("cityscapes", folder, images=images)
    (images / "x" / "a_leftImg8bit.png").write_bytes(b"image")
    back("cityscapes", folder, images=images)
    assert [f.read_bytes() for f in (tmp_path / "back0" / "images").iterdir()] == [b"image"]
    (images / "a.jpg").write_bytes(b"other")
    with pytest.raises(ExchangeError, match="'a' may be any of"):
        back("cityscapes", folder, images=images)


def test_tasks_that_nobody_annotated_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    region = {
        "type": "brushlabels",
        "original_width": 40,
        "original_height": 34,
        "value": {"format": "rle", "rle": encode(noise(7) == 1), "brushlabels": ["sky"]},
    }
    tasks = [
        {"data": {"image": "a.png"}, "annotations": [], "predictions": [{"result": [region]}]},
        {"data": {"image": "b.png"}, "annotations": [{"result": []}]},
        {"data": {"image": "c.png"}},
    ]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    np.testing.assert_array_equal(back("label-studio", tmp_path / "a.json") == 3, noise(7) == 1)
    assert "2 tasks without any region, left out" in caplog.text
    assert "of 1 task the last prediction is taken, as nobody annotated it" in caplog.text


def test_an_unknown_shape_of_cvat_is_refused(tmp_path: Path) -> None:
    image = '<image name="a.png" width="40" height="40"><tag label="day"/>{}</image>'
    hexagon = '<hexagon label="road" points="1,1"/>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image.format(hexagon)}</annotations>")
    with pytest.raises(ExchangeError, match=r"shape 2 \(hexagon\) is of an unknown kind; polygon, mask, box"):
        back("cvat", tmp_path / "a.xml")
    empty = '<polygon label="road" points=""/>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image.format(empty)}</annotations>")
    with pytest.raises(ExchangeError, match="its polygon is not a list of 3 points"):
        back("cvat", tmp_path / "a.xml")


def test_a_label_studio_upload_and_a_polygon(tmp_path: Path) -> None:
    task = {
        "data": {"image": "/data/upload/3/0123abcd-a%20b.jpg"},
        "predictions": [{"result": []}],
        "annotations": [
            {
                "updated_at": "2026-01-02",
                "result": [
                    {"type": "relation", "from_id": "a", "to_id": "a", "direction": "right"},
                    {"type": "number", "value": {"number": 5}},
                    {
                        "type": "brushlabels",
                        "original_width": 40,
                        "original_height": 34,
                        "value": {"format": "rle", "rle": encode(noise(7) == 1), "brushlabels": ["sky"]},
                    },
                ],
            },
            {"updated_at": "2026-01-03", "was_cancelled": True, "result": []},
            {"updated_at": "2026-01-01", "result": []},
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps([task]))
    np.testing.assert_array_equal(back("label-studio", path) == 3, noise(7) == 1)
    assert (tmp_path / "back0" / "labels" / "a b.png").exists()


def test_damaged_and_wrong_zips_are_named(tmp_path: Path) -> None:
    frames = [LabelledFrame("a.png", noise(1))]
    path = tmp_path / "a.zip"
    export_labels("cvat-masks", path, frames, SITE, ExportOptions())
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(ExchangeError, match=r"a\.zip/SegmentationClass/a\.png cannot be read"):
        back("cvat-masks", path)
    for kind in ("cvat-masks", "cvat"):
        path.write_bytes(data[:200])
        with pytest.raises(ExchangeError, match=r"a\.zip is no whole zip; it is truncated"):
            back(kind, path)
    mask = cv2.imencode(".png", np.full((32, 32, 3), 9, np.uint8))[1].tobytes()
    for labelmap, said in (
        ("road 1,2,3\n", "line 1: 'road 1,2,3' is not LABEL:R,G,B:PARTS:ACTIONS"),
        ("road:1,2,3::\nsky:1,2,3::\n", r"gives 'road' and 'sky' one colour, \(1, 2, 3\)"),
        ("road:1,2,3::\n", r"has 1024 pixels of no label in labelmap.txt, as \(9, 9, 9\)"),
        ("elf:1,2,3::\n", r"1 label that label set site lacks: 'elf'"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("labelmap.txt", labelmap)
            archive.writestr("SegmentationClass/x/b.png", mask)
        with pytest.raises(ExchangeError, match=said):
            back("cvat-masks", path)


def test_plain_png_is_read_by_its_classes(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255]], np.uint8)
    folder = tmp_path / "masks"
    write(folder / "a.png", ids)
    assert back("png", folder).tolist() == [[0, 1, 255]]
    (folder / "classes.txt").write_text("\ufeffSKY\nroad\n", encoding="utf-8")
    assert back("png", folder).tolist() == [[3, 0, 255]]
    (folder / "classes.txt").write_text("sky\n")
    with pytest.raises(ExchangeError, match=r"a\.png has id 1, which is no class"):
        back("png", folder)
    (folder / "classes.txt").unlink()
    (folder / "classes.yaml").write_text("classes: 3")
    with pytest.raises(ExchangeError, match="is no list of classes"):
        back("png", folder)


def test_images_of_another_size_are_named_and_empty_ones_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = city(tmp_path), tmp_path / "images"
    city(tmp_path, {"label": "Sky", "polygon": SQUARE}, name="b_gtFine_polygons.json")
    images.mkdir()
    for name in ("a.png", "b.webp"):
        cv2.imwrite(str(images / name), np.zeros((40, 41, 3), np.uint8))
    (tmp_path / "set.yaml").write_bytes(
        b"name: s\r\nclasses:\r\n  - {id: 0, name: sky, color: [0, 0, 1]}\r\n"
    )
    command = ["dataset", "import", "cityscapes", str(folder), "--label-set", str(tmp_path / "set.yaml")]
    command += ["--images", str(images), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "labels 2 images of another size: a.png is 41x40, its labels 40x40; b.webp is 41x40" in said
    assert not (tmp_path / "out").exists()
    for name in ("a.png", "b.webp"):
        cv2.imwrite(str(images / name), np.zeros((40, 40, 3), np.uint8))
    assert main(command) == 0
    assert "labels of 2 images, 1 of them without any label" in capsys.readouterr().out


def test_two_classes_of_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "png" / "a.png", np.zeros((40, 40), np.uint8))
    listed = "classes: [{id: 0, name: sky}, {id: 0, name: road}]"
    (tmp_path / "png" / "classes.yaml").write_text(listed)
    with pytest.raises(ExchangeError, match="two classes of the id 0, 'sky' and 'road'"):
        back("png", tmp_path / "png")
