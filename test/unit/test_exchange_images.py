"""Which image a label is of, and polygons that leave it: nobody would see wrong pairs and shapes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.exchange import SITE, back, needs_coco

from rt_segmentation.data.exchange.frames import ExchangeError, ExportOptions, LabelledFrame
from rt_segmentation.data.exchange.moving import export_labels
from rt_segmentation.data.exchange.shapes import clip_polygon, polygon_mask

LABELS = np.tile(np.array([[0, 3]], np.uint8), (40, 30))


def label(name: str, folder: Path) -> Path:
    """COCO's labels of one image, 60x40 px."""
    path = folder / "labels.json"
    export_labels("coco", path, [LabelledFrame(name, LABELS)], SITE, ExportOptions())
    return path


def picture(path: Path, gray: int = 0, width: int = 60, height: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), gray, np.uint8))


def copied(folder: Path) -> int:
    (image,) = (folder / "back0" / "images").iterdir()
    return int(cv2.imread(str(image))[0, 0, 0])


@needs_coco
def test_the_folders_decide_between_images_of_one_name(tmp_path: Path) -> None:
    images = tmp_path / "images"
    picture(images / "front" / "1.png", 1)
    with pytest.raises(ExchangeError, match=r"rear/1\.png \(front/1\.png is of another folder\)"):
        back("coco", label("rear/1.png", tmp_path), images=images)
    picture(images / "site" / "rear" / "1.png", 2)
    back("coco", label("rear/1.png", tmp_path), images=images)
    assert copied(tmp_path) == 2


@needs_coco
@pytest.mark.parametrize("name", ["rear/1.png", "data/site/rear/1.png", "site/rear/1.png"])
def test_folders_that_only_one_side_has_do_not_count(name: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    picture(images / "1.png", 1)
    back("coco", label(name, tmp_path), images=images)
    assert copied(tmp_path) == 1


def test_a_name_without_a_suffix_goes_by_its_folders_too(tmp_path: Path) -> None:
    path = tmp_path / "masks.zip"
    export_labels("cvat-masks", path, [LabelledFrame("s2/a.png", LABELS)], SITE, ExportOptions())
    for number in (1, 2):
        picture(tmp_path / "images" / f"s{number}" / "a.png", number)
    back("cvat-masks", path, images=tmp_path / "images")
    assert copied(tmp_path) == 2


def turned(path: Path) -> None:
    """A file that is turned by 90 degrees where it is shown (EXIF orientation 6)."""
    data = path.read_bytes()
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    if data.startswith(b"\xff\xd8"):
        content = b"Exif\0\0" + exif
        data = data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[2:]
    else:
        chunk = b"eXIf" + exif
        after = 33  # signature and IHDR
        crc = zlib.crc32(chunk).to_bytes(4, "big")
        data = data[:after] + len(exif).to_bytes(4, "big") + chunk + crc + data[after:]
    path.write_bytes(data)


@needs_coco
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    ("width", "height", "exif", "fits"),
    [(60, 40, False, True), (40, 60, False, False), (40, 60, True, True), (60, 40, True, False)],
)
def test_the_size_of_a_turned_picture_is_the_one_that_is_shown(
    suffix: str, width: int, height: int, exif: bool, fits: bool, tmp_path: Path
) -> None:
    image = tmp_path / "images" / f"a{suffix}"
    picture(image, 1, width, height)
    if exif:
        turned(image)
        if cv2.imread(str(image)).shape[:2] == (height, width):
            pytest.skip("this OpenCV shows such a file as it is stored")
    path = label(image.name, tmp_path)
    if fits:
        back("coco", path, images=tmp_path / "images")
    else:
        with pytest.raises(
            ExchangeError, match=r"1 image of another size: a\.\w+ is 40x60, its labels 60x40"
        ):
            back("coco", path, images=tmp_path / "images")


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_an_edge_keeps_its_slope_where_a_polygon_is_cut(scale: float) -> None:
    points = np.array([[0, 0], [1000, 500], [0, 500]]) * scale
    cut = clip_polygon(points, 240.0)
    assert np.abs(cut).max() <= 240
    assert [240, 120] in cut.tolist() and [0, 0] in cut.tolist() and [0, 240] in cut.tolist()


def test_a_polygon_that_lies_outside_leaves_nothing() -> None:
    assert clip_polygon(np.array([[500, 0], [600, 0], [600, 9]]), 240.0).shape == (0, 2)
    inside = np.array([[1.5, 2], [7, 3], [4, 9]])
    assert (clip_polygon(inside, 240.0) == inside).all()


@needs_coco
@pytest.mark.parametrize("far", [1, 1000])
def test_a_large_polygon_is_drawn_as_its_part_in_the_image(far: int) -> None:
    rows, columns = np.mgrid[:40, :60] + 0.5
    drawn = polygon_mask([[0, 0, 1000 * far, 500 * far, 0, 500 * far]], 60, 40)
    assert abs(int(drawn.sum()) - int((rows > columns / 2).sum())) <= 60  # along the edge
    assert polygon_mask([[900, 0, 999, 0, 999, 9]], 60, 40).sum() == 0


@pytest.mark.parametrize("far", [1, 1000])
def test_a_large_polygon_of_cityscapes_is_drawn_as_its_part_in_the_image(far: int, tmp_path: Path) -> None:
    polygon = [[0, 0], [1000 * far, 500 * far], [0, 500 * far]]
    outside = {"label": "road", "polygon": [[99999, 0], [99999, 9], [88888, 5]]}
    content = {"imgHeight": 40, "imgWidth": 60, "objects": [{"label": "sky", "polygon": polygon}, outside]}
    (tmp_path / "city").mkdir()
    (tmp_path / "city" / "a_gtFine_polygons.json").write_text(json.dumps(content))
    rows, columns = np.mgrid[:40, :60] + 0.5
    drawn = back("cityscapes", tmp_path / "city") == 3
    assert abs(int(drawn.sum()) - int((rows > columns / 2).sum())) <= 90
