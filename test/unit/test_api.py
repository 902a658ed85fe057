"""The front door: what `import rt_segmentation` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: no network to run")

import rt_segmentation as rt
from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.imaging.render import overlay
from rt_segmentation.models import ModelManifest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def segmenter(small_model: ModelManifest) -> rt.Segmenter:
    return rt.Segmenter(small_model.path, "torch", "fp32")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return StreetScene(1, 160, 120).render(0.0)[0]


def test_importing_the_package_costs_no_library() -> None:
    heavy = "'cv2', 'numpy', 'torch', 'yaml', 'openvino'"
    code = f"import sys, rt_segmentation as rt; print([m for m in ({heavy}) if m in sys.modules], rt.__all__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert run.stdout.startswith("[] "), run


def test_every_public_name_is_there() -> None:
    assert all(getattr(rt, name) is not None for name in rt.__all__) and dir(rt) == sorted(rt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        _ = rt.Segmentor


def test_version_is_that_of_the_package() -> None:
    assert ElementTree.parse(REPOSITORY / "package.xml").findtext("version") == rt.__version__


def test_one_image_a_list_and_an_iterator(segmenter: rt.Segmenter, image: np.ndarray) -> None:
    one = segmenter(image, confidence=True)
    assert (
        one.labels.shape == (120, 160) and one.labels.dtype == np.uint8 and one.label_set.name == "camvid11"
    )
    assert one.confidence is not None and one.confidence.shape == (120, 160)
    several = segmenter([image, image[:60]])
    assert [r.labels.shape for r in several] == [(120, 160), (60, 160)]
    assert (several[0].labels == one.labels).all() and several[0].confidence is None
    taken: list[int] = []

    def images() -> object:
        for number in range(3):
            taken.append(number)
            yield image

    results = segmenter(images())  # type: ignore[call-overload]
    assert (next(results).labels == one.labels).all() and taken == [0]


def test_results_stay_when_the_next_image_comes(segmenter: rt.Segmenter, image: np.ndarray) -> None:
    first = segmenter(image, confidence=True)
    assert first.confidence is not None
    labels, confidence = first.labels.copy(), first.confidence.copy()
    for _ in range(3):
        segmenter(255 - image, confidence=True)
    assert (first.labels == labels).all() and (first.confidence == confidence).all()
    # What the network saw, too.
    results = segmenter([np.full((90, 120, 3), gray, np.uint8) for gray in (10, 100, 200)])
    assert [int(result.rgb.mean()) for result in results] == [10, 100, 200]


def test_bgr_turned_around_gray_and_cameras_frames_are_images(
    segmenter: rt.Segmenter, image: np.ndarray
) -> None:
    labels = segmenter(image).labels
    assert (segmenter(np.ascontiguousarray(image[..., ::-1])[..., ::-1]).labels == labels).all()
    assert (segmenter(rt.Frame.from_rgb(image)).labels == labels).all()
    gray = image[..., 0]
    assert (segmenter(gray).labels == segmenter(gray[..., None].repeat(3, 2)).labels).all()


def test_a_result_is_painted_in_its_own_classes(segmenter: rt.Segmenter, image: np.ndarray) -> None:
    result = segmenter(image)
    palette = result.label_set.palette()
    assert (result.colorize() == palette[result.labels]).all()
    assert (result.overlay(0.3) == overlay(image, result.labels, palette, 0.3)).all()
    assert (result.overlay(0.0) == image).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((60, 80, 3), np.float32), "is float32 (60, 80, 3)"),
        (np.zeros((3, 60, 80), np.uint8), "is uint8 (3, 60, 80)"),
        (np.zeros((60, 80, 4), np.uint8), "is uint8 (60, 80, 4)"),
        (np.zeros((0, 80, 3), np.uint8), "is uint8 (0, 80, 3)"),
        (None, "is a NoneType"),
        ("street.png", "is a str"),
        (b"\xff\xd8", "is a bytes"),
        (bytearray(2), "is a bytearray"),
    ],
    ids=[
        *("float", "channels first", "alpha", "empty", "None, as cv2.imread gives for a missing file"),
        *("path", "a file's bytes", "a buffer"),
    ],
)
def test_what_is_no_image_is_refused(segmenter: rt.Segmenter, wrong: object, words: str) -> None:
    with pytest.raises(ValueError, match="uint8") as caught:
        segmenter(wrong)  # type: ignore[call-overload]
    assert words in str(caught.value) and isinstance(caught.value, RtSegmentationError)


@pytest.mark.parametrize("sides", [(1, 1), (31, 80), (80, 31)])
def test_an_image_of_too_few_pixels_is_refused(segmenter: rt.Segmenter, sides: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="each side must be 32 to 7680 px"):
        segmenter(np.zeros((*sides, 3), np.uint8))
    assert segmenter(np.zeros((32, 32, 3), np.uint8)).labels.shape == (32, 32)


def test_unknown_model_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown model 'lednett'; there are .*lednet"):
        rt.Segmenter("lednett")


@pytest.mark.parametrize(
    "size", [(-1, 0), (3, 3), (100000, 360), 640, None, (640,), (64.5, 64), ("a", 1), "ab"]
)
def test_what_is_no_input_size_is_refused(size: Any, small_model: ModelManifest) -> None:
    with pytest.raises(RtSegmentationError, match=r"input_size is .*; it must be \(width, height\)"):
        rt.Segmenter(small_model, "torch", input_size=size)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"roi": 5}, "roi is 5: it must be four numbers"),
        ({"roi": (0, 0, 64)}, r"roi is \(0, 0, 64\): it must be four numbers"),
        ({"roi": (0, 0, 64, 1)}, "width and height from 32 to 7680 px"),
        ({"roi": ("0", "0", "64", "64")}, "whole pixels"),
        ({"roi": (0.5, 0, 64, 64)}, "whole pixels"),
        ({"letterbox": "no"}, "letterbox is 'no': it must be True or False"),
        ({"roi": np.zeros((2, 2), int)}, r"roi is \[\[0, 0\], \[0, 0\]\]: it must be four numbers"),
        ({"roi": [np.zeros(2, int), np.array([64, 48])]}, "it must be four numbers"),
        ({"roi": np.array(5)}, "roi is 5: it must be four numbers"),
        ({"rotation": 45}, "rotation is 45: it must be 0, 90, 180 or 270"),
        ({"rotation": np.array([1, 2])}, r"rotation is array\(\[1, 2\]\): it must be 0, 90, 180 or 270"),
        ({"rotation": np.array([90])}, "it must be 0, 90, 180 or 270"),
        ({"rotation": [90]}, "it must be 0, 90, 180 or 270"),
    ],
)
def test_what_is_no_region_or_rotation_is_refused(
    wrong: dict[str, Any], words: str, small_model: ModelManifest
) -> None:
    with pytest.raises(RtSegmentationError, match=words):
        rt.Segmenter(small_model, "torch", **wrong)


def test_a_region_and_a_rotation(segmenter: rt.Segmenter, image: np.ndarray, small_model: Any) -> None:
    region: Any = np.array((0, 0, 64, 48))
    part = rt.Segmenter(small_model, "torch", "fp32", roi=region, rotation=180)
    result = part(image)
    assert result.labels.shape == image.shape[:2]
    assert (result.labels[:48, :64] != 255).all() and (result.labels[48:] == 255).all()
    turned = segmenter(image[:48, :64][::-1, ::-1]).labels
    assert (result.labels[:48, :64] == turned[::-1, ::-1]).mean() > 0.9


def test_results_can_be_compared_and_kept_in_sets(segmenter: rt.Segmenter, image: np.ndarray) -> None:
    first, second = segmenter([image, image])
    assert first != second and len({first, second}) == 2
