"""Labels out to annotation tools and back, pixel by pixel, and by the tools' own libraries."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.dataset_layouts import write
from support.exchange import OUT, SITE, back, needs_coco, nested, noise

from rt_segmentation.cli import main
from rt_segmentation.commands.dataset_exchange import FORMATS as FORMAT_NAMES
from rt_segmentation.data.exchange import FORMATS
from rt_segmentation.data.exchange.brush import decode, encode
from rt_segmentation.data.exchange.frames import ClassNames, ExchangeError, ExportOptions, LabelledFrame
from rt_segmentation.data.exchange.moving import export_labels, import_labels
from rt_segmentation.data.exchange.shapes import from_run_lengths, regions, run_lengths, trace
from rt_segmentation.labels import load_label_set
from rt_segmentation.models import ModelManifest

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


def test_two_images_of_one_name_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    frames = [LabelledFrame("x/a.png", nested()), LabelledFrame("y/a.jpg", nested())]
    with pytest.raises(ExchangeError, match=r"'x/a.png' and 'y/a.jpg' would both have the labels a.png"):
        export_labels("png", tmp_path / "out", frames, SITE, ExportOptions())
    assert not list(tmp_path.iterdir())
    export_labels("png", tmp_path / "out", frames[:1], SITE, ExportOptions())
    with pytest.raises(FileExistsError, match="is no empty folder"):
        export_labels("png", tmp_path / "out", frames[:1], SITE, ExportOptions())


def test_images_of_few_pixels_come_back(tmp_path: Path) -> None:
    labels = np.array([[0, 255, 3]], np.uint8)
    for kind in ("cvat-masks", "label-studio", "cityscapes", "png"):
        folder = tmp_path / kind
        folder.mkdir()
        target = folder / OUT.get(kind, "folder")
        export_labels(kind, target, [LabelledFrame("a.png", labels)], SITE, ExportOptions())
        np.testing.assert_array_equal(back(kind, target), labels, kind)


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


@pytest.mark.parametrize(("sides", "status"), [((64, 8), 2), ((8,), 2), ((64, 64), 0)])
def test_prelabels_pass_over_what_cannot_be_segmented(
    small_model: ModelManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sides: tuple[int, ...],
    status: int,
) -> None:
    for index, side in enumerate(sides):
        picture = cv2.resize(noise(8), (side, side))[..., None].repeat(3, 2)
        write(tmp_path / "frames" / f"{index}.png", picture)
    words = ["dataset", "prelabel", str(tmp_path / "frames"), "--model", str(small_model.path)]
    words += [
        "--engine",
        "torch",
        "--format",
        "png",
        "--out",
        str(tmp_path / "out"),
        "--min-confidence",
        "0.1",
    ]
    assert main(words) == status
    said = capsys.readouterr().err
    assert ("could not be used" in said) == (len(sides) > 1 and 8 in sides)
    assert ("none of the 1 images" in said and "8x8" in said) == (sides == (8,))
    masks = sorted(path.name for path in (tmp_path / "out").rglob("[0-9].png"))
    assert masks == [f"{index}.png" for index, side in enumerate(sides) if side >= 32]
