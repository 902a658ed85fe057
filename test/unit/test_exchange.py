"""Labels out to annotation tools and back, pixel by pixel, and by the tools' own libraries."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.dataset_layouts import write

from rt_segmentation.cli import main
from rt_segmentation.commands.dataset_exchange import FORMATS as FORMAT_NAMES
from rt_segmentation.data.exchange import FORMATS
from rt_segmentation.data.exchange.brush import decode, encode
from rt_segmentation.data.exchange.frames import ClassNames, ExchangeError, ExportOptions, LabelledFrame
from rt_segmentation.data.exchange.moving import export_labels, import_labels
from rt_segmentation.data.exchange.shapes import from_run_lengths, regions, run_lengths, trace
from rt_segmentation.labels import LabelClass, LabelSet, load_label_set
from rt_segmentation.models import ModelManifest

needs_coco = pytest.mark.skipif(
    importlib.util.find_spec("pycocotools") is None, reason="pycocotools, which draws polygons, is missing"
)
# Black, one colour twice, a name with a space, an accent and XML's own characters.
CLASSES = (
    LabelClass(0, "road", (0, 0, 0), "flat"),
    LabelClass(1, "traffic sign", (220, 20, 60), "object"),
    LabelClass(2, "Fußgänger & <Hund>", (220, 20, 60), "object"),
    LabelClass(3, "sky", (70, 130, 180), "sky"),
)
SITE = LabelSet("site", CLASSES)
OUT = {"cvat": "a.xml", "cvat-masks": "a.zip", "coco": "a.json", "label-studio": "a.json"}


def nested() -> np.ndarray:
    """Rings within rings, unlabelled holes, corners that touch, single pixels, and regions at all edges."""
    labels = np.zeros((40, 48), np.uint8)
    cv2.circle(labels, (20, 20), 15, 1, -1)
    cv2.circle(labels, (20, 20), 11, 255, -1)
    cv2.circle(labels, (20, 20), 8, 2, -1)
    cv2.circle(labels, (20, 20), 4, 0, -1)
    labels[19:22, 19:22] = 3
    labels[20, 20] = 255
    labels[:4, 40:] = 255
    for i in range(8):
        labels[30 + i, 38 + i] = 1
        labels[30 + i, 45 - i] = 2
    # A ring that closes by a corner alone, around pixels that are connected to the outside by a corner.
    labels[2:7, 30:35] = 3
    labels[3:6, 31:34] = 0
    labels[2, 34] = 0
    labels[3, 34] = 3
    return labels


def noise(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (12, 12))
    labels = cv2.resize(small, (40, 34), interpolation=cv2.INTER_NEAREST)
    spots = rng.random(labels.shape) < 0.1
    labels[spots] = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), np.count_nonzero(spots))
    return labels


FRAMES = [
    LabelledFrame("one.jpg", nested()),
    LabelledFrame("two é.png", noise(1)),
    LabelledFrame("three.v2.png", noise(2)),
    LabelledFrame("nothing.png", np.full((32, 33), 255, np.uint8)),
    LabelledFrame("all.png", np.full((32, 32), 2, np.uint8)),
]


def round_trip(kind: str, tmp_path: Path, options: ExportOptions) -> dict[str, np.ndarray]:
    target = tmp_path / OUT.get(kind, "folder")
    export_labels(kind, target, FRAMES, SITE, options)
    import_labels(kind, target, ClassNames(SITE), tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([target.name, "back"]), "nothing unfinished"
    read = {}
    for file in (tmp_path / "back" / "labels").iterdir():
        read[file.stem] = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    return read


@pytest.mark.parametrize("shapes", ["polygons", "masks"])
@pytest.mark.parametrize("kind", FORMATS)
def test_what_goes_out_comes_back_pixel_by_pixel(kind: str, shapes: str, tmp_path: Path) -> None:
    if kind == "coco" or (kind == "cvat" and shapes == "polygons"):
        pytest.importorskip("pycocotools", reason="polygons are drawn by pycocotools, which is missing")
    read = round_trip(kind, tmp_path, ExportOptions(polygons=shapes == "polygons"))
    expected = dict(zip(["one", "two é", "three.v2", "nothing", "all"], (f.labels for f in FRAMES)))
    if kind == "label-studio":
        # A task without regions does not say how large its image is.
        del expected["nothing"]
    assert sorted(read) == sorted(expected)
    for name, labels in expected.items():
        np.testing.assert_array_equal(read[name], labels, name)


def test_the_command_knows_all_formats() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES


def test_shapes_in_layers_cover_each_other() -> None:
    for labels in (nested(), noise(3), noise(4)):
        drawn = np.full(labels.shape, 255, np.uint8)
        for region in regions(labels):
            height, width = region.mask.shape
            box = drawn[region.top : region.top + height, region.left : region.left + width]
            box[region.filled] = region.value
        np.testing.assert_array_equal(drawn, labels)


def test_an_edge_by_hand() -> None:
    # Two pixels that touch by a corner, joined by a third: the edge visits the corner's point once a side.
    mask = np.array([[1, 1, 0], [0, 1, 1]], bool)
    assert trace(mask).tolist() == [[0, 0], [2, 0], [2, 1], [3, 1], [3, 2], [1, 2], [1, 1], [0, 1]]
    assert run_lengths(mask.ravel()) == [0, 2, 2, 2]
    assert from_run_lengths([0, 2, 2, 2], 6).reshape(2, 3).tolist() == mask.tolist()


def test_label_studio_bits_by_its_own_converter() -> None:
    mask = noise(5) == 1
    np.testing.assert_array_equal(decode(encode(mask), 40, 34), mask)
    long = np.zeros((300, 400), bool)
    long[:250] = True
    np.testing.assert_array_equal(decode(encode(long), 400, 300), long)
    # What its converter gave for this mask.
    assert encode(np.array([[1, 1, 0, 1]], bool)) == [0, 0, 0, 16, 57, 27, 252, 255, 241, 128, 71, 254]
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed"
    )
    for values in (mask, long):
        theirs = brush.encode_rle(np.repeat(values.ravel().astype(np.uint8) * 255, 4))
        np.testing.assert_array_equal(decode(theirs, values.shape[1], values.shape[0]), values)
        ours = brush.decode_rle(encode(values)).reshape(*values.shape, 4)[..., 3]
        np.testing.assert_array_equal(ours > 0, values)


@needs_coco
@pytest.mark.parametrize("polygons", [True, False])
def test_pycocotools_reads_what_is_written(polygons: bool, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    export_labels("coco", tmp_path / "a.json", FRAMES, SITE, ExportOptions(polygons))
    coco = COCO(str(tmp_path / "a.json"))
    kinds = set()
    for image, frame in zip(coco.loadImgs(coco.getImgIds()), FRAMES):
        labels = np.full(frame.labels.shape, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            assert annotation["area"] == mask.sum() and (labels[mask] == 255).all(), "none overlap"
            labels[mask] = annotation["category_id"] - 1
            kinds.add((annotation["iscrowd"], type(annotation["segmentation"])))
        np.testing.assert_array_equal(labels, frame.labels)
    assert kinds == ({(0, list), (1, dict)} if polygons else {(1, dict)})


def test_the_scripts_of_cityscapes_draw_the_same(tmp_path: Path) -> None:
    script = pytest.importorskip("cityscapesscripts.preparation.json2labelImg")
    city = load_label_set("cityscapes34")
    for seed in range(3):
        labels = np.array([7, 8, 21, 23, 26], np.uint8)[noise(seed) % 5]
        folder = tmp_path / str(seed)
        export_labels(
            "cityscapes", folder, [LabelledFrame("a_leftImg8bit.png", labels)], city, ExportOptions()
        )
        (file,) = folder.iterdir()
        assert file.name == "a_gtFine_polygons.json"
        script.json2labelImg(str(file), str(tmp_path / "theirs.png"), "ids")
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / "theirs.png"), 0), labels)


def test_datumaro_reads_what_is_written(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    frame = LabelledFrame("one.png", nested())
    export_labels("cvat-masks", tmp_path / "a.zip", [frame], SITE, ExportOptions())
    zipfile.ZipFile(tmp_path / "a.zip").extractall(tmp_path / "voc")
    export_labels("cvat", tmp_path / "cvat" / "a.xml", [frame], SITE, ExportOptions(polygons=False))
    # It wants the image beside the file.
    write(tmp_path / "cvat" / "images" / "one.png", np.zeros((*frame.labels.shape, 3), np.uint8))
    for folder, kind in (("voc", "voc_segmentation"), ("cvat", "cvat")):
        dataset = datumaro.Dataset.import_from(str(tmp_path / folder), kind)
        names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
        (item,) = dataset
        labels = np.full(frame.labels.shape, 255, np.uint8)
        for annotation in item.annotations:
            name = names[annotation.label]
            if name != "background":
                labels[np.asarray(annotation.image, bool)] = SITE.names.index(name)
        np.testing.assert_array_equal(labels, frame.labels, kind)


def back(kind: str, path: Path, names: ClassNames | None = None, images: Path | None = None) -> np.ndarray:
    """The labels of a file with one image."""
    out = path.parent / f"back{len(list(path.parent.glob('back*')))}"
    import_labels(kind, path, names or ClassNames(SITE), out, images)
    (file,) = (out / "labels").iterdir()
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))


def city(tmp_path: Path, *objects: Any, name: str = "a_gtFine_polygons.json") -> Path:
    folder = tmp_path / "city"
    folder.mkdir(exist_ok=True)
    content = {"imgHeight": 40, "imgWidth": 40, "objects": list(objects)}
    (folder / name).write_text(json.dumps(content))
    return folder


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
        ("label-studio", "a.json", "{}", "not a list of tasks"),
        ("label-studio", "a.json", '[{"data": {}}]', "has no image in its data"),
        ("label-studio", "a.json", '[{"data": {"image": "a.png"}}]', "has no labelled images"),
        ("cityscapes", "a.json", "{}", "no list 'objects'"),
        ("png", "a.txt", "", "has no label PNGs"),
        ("cvat-masks", "a.txt", "", r"has 0 files \*labelmap.txt"),
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
    with pytest.raises(ExchangeError, match=r"lacks 1 images that .* labels: a"):
        back("cityscapes", folder, images=images)
    (images / "x" / "a_leftImg8bit.png").write_bytes(b"image")
    back("cityscapes", folder, images=images)
    assert [f.read_bytes() for f in (tmp_path / "back0" / "images").iterdir()] == [b"image"]
    (images / "a.jpg").write_bytes(b"other")
    with pytest.raises(ExchangeError, match="'a' may be any of"):
        back("cityscapes", folder, images=images)


def test_two_images_of_one_name_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    frames = [LabelledFrame("x/a.png", nested()), LabelledFrame("y/a.jpg", nested())]
    with pytest.raises(ExchangeError, match=r"'x/a.png' and 'y/a.jpg' would both have the labels a.png"):
        export_labels("png", tmp_path / "out", frames, SITE, ExportOptions())
    assert not list(tmp_path.iterdir())
    export_labels("png", tmp_path / "out", frames[:1], SITE, ExportOptions())
    with pytest.raises(FileExistsError, match="is no empty folder"):
        export_labels("png", tmp_path / "out", frames[:1], SITE, ExportOptions())


def test_a_label_studio_upload_and_a_polygon(tmp_path: Path) -> None:
    task = {
        "data": {"image": "/data/upload/3/0123abcd-a%20b.jpg"},
        "predictions": [{"result": []}],
        "annotations": [
            {
                "updated_at": "2026-01-02",
                "result": [
                    {
                        "type": "brushlabels",
                        "original_width": 40,
                        "original_height": 34,
                        "value": {"format": "rle", "rle": encode(noise(7) == 1), "brushlabels": ["sky"]},
                    }
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


def test_images_of_few_pixels_come_back(tmp_path: Path) -> None:
    labels = np.array([[0, 255, 3]], np.uint8)
    for kind in ("cvat-masks", "label-studio", "cityscapes", "png"):
        folder = tmp_path / kind
        folder.mkdir()
        target = folder / OUT.get(kind, "folder")
        export_labels(kind, target, [LabelledFrame("a.png", labels)], SITE, ExportOptions())
        np.testing.assert_array_equal(back(kind, target), labels, kind)


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
        ("elf:1,2,3::\n", r"1 labels that label set site lacks: 'elf'"),
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
    (folder / "classes.txt").write_text("SKY\nroad\n")
    assert back("png", folder).tolist() == [[3, 0, 255]]
    (folder / "classes.txt").write_text("sky\n")
    with pytest.raises(ExchangeError, match=r"a\.png has id 1, which is no class"):
        back("png", folder)
    (folder / "classes.txt").unlink()
    (folder / "classes.yaml").write_text("classes: 3")
    with pytest.raises(ExchangeError, match="is no list of classes"):
        back("png", folder)


def test_a_simpler_polygon_has_fewer_points_and_is_near() -> None:
    (region,) = [r for r in regions(nested()) if r.value == 1 and r.mask.sum() > 100]
    exact, simple = region.outline(), region.outline(1.5)
    assert 3 <= len(simple) < len(exact) / 2
    distances = [cv2.pointPolygonTest(simple[:, None].astype(np.float32), p, True) for p in exact.tolist()]
    assert np.abs(distances).max() <= 1.5 + 1e-6


def test_prelabels_leave_out_what_the_model_is_not_sure_of(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "frames" / "a.png", cv2.resize(noise(8), (64, 64))[..., None].repeat(3, 2))
    words = ["dataset", "prelabel", str(tmp_path / "frames"), "--model", str(small_model.path)]
    words += ["--engine", "torch", "--format", "png"]
    for confidence in ("0", "0.2", "1"):
        words_of = [*words, "--out", str(tmp_path / confidence), "--min-confidence", confidence]
        assert main(words_of) == 0, capsys.readouterr().err
    every, some, none = (cv2.imread(str(tmp_path / c / "a.png"), 0) for c in ("0", "0.2", "1"))
    assert every is not None and some is not None and none is not None
    assert every.shape == (64, 64) and (every != 255).all() and (none == 255).mean() > 0.5
    kept = some != 255
    assert np.array_equal(some[kept], every[kept]) and (some == 255).sum() <= (none == 255).sum()
    assert "below 0.2" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "b"), "--min-confidence", "2"]) == 2
    assert "--min-confidence is 2; it must be from 0 to 1" in capsys.readouterr().err
