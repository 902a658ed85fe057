"""Which labels belong to which image of a bag, where its stamps do not tell; and what is said of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("jinja2", reason="Jinja2 is not installed: no report")

from support.street_bags import BEGIN_NS, PERIOD_NS, image, settings, street, write_bag

from rt_segmentation.cli import main
from rt_segmentation.evaluation.bag.clock import Times, choose_moment, recorded_of, stamp_of
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.imaging.codec import encode_png
from rt_segmentation.models import ModelManifest

FRAMES = 6
HOUR_NS = 3_600_000_000_000
Stamps = Callable[[int], int]


def proper(number: int) -> int:
    """The stamp that a camera's driver gives its image [ns]."""
    return int(BEGIN_NS + number * PERIOD_NS)


def zero(_: int) -> int:
    return 0


def an_hour_later(number: int) -> int:
    return proper(number) + HOUR_NS


def bag_of(
    path: Path, images: Stamps, labels: Stamps | None, change: Callable[[Any], Any] = lambda pixels: pixels
) -> Path:
    messages = []
    for number in range(FRAMES):
        rgb, ids = street(number)
        recorded_ns = proper(number) + 1_000_000
        messages.append(("camera", recorded_ns, image(rgb, images(number))))
        if labels is not None:
            messages.append(("truth", recorded_ns + 2_000_000, image(change(ids), labels(number))))
    write_bag(path, messages)
    return path


def evaluate(bag: Path, model: ModelManifest, out: Path, **changes: Any) -> dict[str, Any]:
    chosen = settings(model, out, **changes)
    return evaluate_bags([bag], chosen, "rt_seg evaluate-bag", threading.Event(), lambda *_: None).to_plain()


@pytest.fixture(scope="module")
def confusion(small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of the bag with proper stamps, where nothing is said."""
    folder = tmp_path_factory.mktemp("proper")
    result = evaluate(bag_of(folder / "bag", proper, proper), small_model, folder / "out")
    assert result["problems"] == [] and not result["lacks_truth"]
    return result["models"][0]["accuracy"]["confusion"]


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (zero, zero, "first 6 images are all 0"),
        (zero, proper, "first 6 images are all 0"),
        (proper, zero, "first 6 labels are all 0"),
        (lambda number: proper(number // 3), proper, "first 6 images are 2 different ones"),
        (proper, an_hour_later, "the labels have another clock, their stamps are 3599.998 s later"),
        (an_hour_later, proper, "the labels have another clock, their stamps are 3600.002 s earlier"),
    ],
)
def test_stamps_that_do_not_serve_are_replaced_by_recorded_times(
    small_model: ModelManifest, confusion: Any, tmp_path: Path, images: Stamps, labels: Stamps, said: str
) -> None:
    result = evaluate(bag_of(tmp_path / "bag", images, labels), small_model, tmp_path / "out")

    assert result["models"][0]["accuracy"]["confusion"] == confusion
    (problem,) = result["problems"]
    assert said in problem and problem.endswith("are paired by the time at which they were recorded")


def test_in_real_time_labels_are_paired_in_the_same_way(small_model: ModelManifest, tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", zero, zero)
    result = evaluate(bag, small_model, tmp_path / "out", mode="realtime")

    model = result["models"][0]
    assert model["accuracy"]["frames"] == model["segmented"] >= 1
    assert "paired by the time at which they were recorded" in result["problems"][0]


def test_a_folder_of_labels_is_paired_in_the_same_way(
    small_model: ModelManifest, confusion: Any, tmp_path: Path
) -> None:
    bag = bag_of(tmp_path / "bag", zero, None)
    for name, offset_ns in (("labels", 0), ("others", HOUR_NS)):
        (tmp_path / name).mkdir()
        for number in range(FRAMES):
            path = tmp_path / name / f"{proper(number) + offset_ns}.png"
            path.write_bytes(encode_png(street(number)[1]))
    chosen = {"label_topic": None, "labels": tmp_path / "labels"}
    result = evaluate(bag, small_model, tmp_path / "out", **chosen)
    assert result["models"][0]["accuracy"]["confusion"] == confusion

    chosen["labels"] = tmp_path / "others"
    result = evaluate(bag, small_model, tmp_path / "none", **chosen)
    assert result["lacks_truth"]
    few = result["problems"][1]
    assert f"0 of 6 images have labels from folder {tmp_path / 'others'} (6 files); the nearest" in few
    assert "3599.749 s later in the middle" in few


def test_labels_of_some_images_are_no_problem(small_model: ModelManifest, tmp_path: Path) -> None:
    messages = []
    for number in range(FRAMES):
        rgb, ids = street(number)
        messages.append(("camera", proper(number), image(rgb, proper(number))))
        if number % 3 == 0:
            messages.append(("truth", proper(number) + 1, image(ids, proper(number))))
    result = evaluate(write_bag(tmp_path / "bag", messages), small_model, tmp_path / "out")
    assert result["models"][0]["accuracy"]["frames"] == 2
    assert result["problems"] == result["notes"] == []


def test_labels_of_which_most_fit_no_image_are_a_problem(small_model: ModelManifest, tmp_path: Path) -> None:
    def mostly_later(number: int) -> int:
        return proper(number) + (0 if number < 2 else 10 * PERIOD_NS)

    result = evaluate(bag_of(tmp_path / "bag", proper, mostly_later), small_model, tmp_path / "out")
    assert result["models"][0]["accuracy"]["frames"] == 2 and not result["lacks_truth"]
    (problem,) = result["problems"]
    assert "2 of 6 images have labels from topic truth (6 messages); the nearest labels of" in problem


def test_labels_that_fit_no_image_exactly_are_noted(small_model: ModelManifest, tmp_path: Path) -> None:
    def late(number: int) -> int:
        return proper(number) + int(PERIOD_NS) // 5

    result = evaluate(bag_of(tmp_path / "bag", proper, late), small_model, tmp_path / "out")
    (note,) = result["notes"]
    for said in (
        "none of the first 6 labels has the stamp of an image; the nearest ones are 0.020 s earlier",
        "the images are 0.100 s apart; the labels that came with an image are stamped 0.018 s later",
    ):
        assert said in note
    assert result["problems"] == []


def times(stamps: list[int], late_ns: int = 0) -> list[Times]:
    return [(stamp, proper(number) + late_ns) for number, stamp in enumerate(stamps)]


def test_stamps_are_kept_where_they_serve() -> None:
    stamps = [proper(number) for number in range(8)]
    assert choose_moment(times(stamps), times(stamps)) == (stamp_of, "")
    assert choose_moment(times(stamps), []) == (stamp_of, "")
    assert choose_moment([], []) == (stamp_of, "")
    # Labels that came long after their images, under their stamps.
    assert choose_moment(times(stamps), times(stamps, 20 * PERIOD_NS)) == (stamp_of, "")
    # A clock of a device: both have it.
    device = [stamp - BEGIN_NS + 5 for stamp in stamps]
    assert choose_moment(times(device), times(device)) == (stamp_of, "")
    # Another clock, and they did not come together either.
    others = [stamp + HOUR_NS for stamp in stamps]
    assert choose_moment(times(stamps), times(others, HOUR_NS // 2)) == (stamp_of, "")
    assert choose_moment(times(stamps), times(others))[0] is recorded_of
    # Labels that were put into the bag before their images, under their stamps.
    many = [proper(number) for number in range(200)]
    early = [(stamp, stamp - 100 * PERIOD_NS) for stamp in many]
    assert choose_moment(times(many[:32]), early[:132]) == (stamp_of, "")
    at_once = [(stamp + 7, BEGIN_NS) for stamp in many]
    assert choose_moment(times(many[:32]), at_once) == (stamp_of, "")
    # Another clock that is so near that labels lie beside images, but not beside their own.
    near = [stamp + 5_030_000_000 for stamp in many]
    moment, said = choose_moment(times(many), times(near))
    assert moment is recorded_of and "5.030 s later" in said
    # The first image of a simulation.
    assert choose_moment(times([0, PERIOD_NS]), times([0, PERIOD_NS]))[0] is stamp_of


def test_images_that_share_a_stamp_have_labels_of_their_own(
    small_model: ModelManifest, confusion: Any, tmp_path: Path
) -> None:
    def started_late(number: int) -> int:
        return proper(number) if number > 1 else 0

    result = evaluate(bag_of(tmp_path / "bag", started_late, started_late), small_model, tmp_path / "out")
    assert result["models"][0]["accuracy"]["confusion"] == confusion


@pytest.mark.parametrize("value", [99, 255])
def test_labels_without_any_class_are_no_ground_truth(
    small_model: ModelManifest, tmp_path: Path, value: int
) -> None:
    bag = bag_of(tmp_path / "bag", proper, proper, lambda ids: np.full_like(ids, value))
    result = evaluate(bag, small_model, tmp_path / "out")
    assert result["models"][0]["accuracy"] is None and result["lacks_truth"]
    *unknown, problem = result["problems"]
    assert problem == (
        "ground truth was asked for, and no frame could be compared with it:"
        " none has usable labels with a labelled pixel"
    )
    assert len(unknown) == (value != 255) and all("100.0% of the ground truth's" in one for one in unknown)


@pytest.mark.parametrize("models", [1, 2])
def test_what_is_wrong_with_many_frames_is_one_line_and_no_success(
    small_model: ModelManifest, tmp_path: Path, models: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = bag_of(tmp_path / "bag", proper, proper, lambda ids: np.ascontiguousarray(ids[::2, ::2]))
    twin = small_model.path.with_name("twin.yaml")
    twin.write_text(small_model.path.read_text())
    given = [part for path in (small_model.path, twin)[:models] for part in ("--model", str(path))]
    given += ["--engine", "torch", "--precision", "fp32", "--label-topic", "truth"]
    junit = tmp_path / "junit.xml"
    given += ["--out", str(tmp_path / "out"), "--junit", str(junit)]

    with pytest.raises(SystemExit) as ended:
        main(["evaluate-bag", str(bag), *given])

    assert ended.value.code == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem: ")]
    assert [line.rpartition("/bag: ")[2] for line in lines] == [
        "labels of frame 0 and 5 more are 80x60 px, the image is 160x120 px",
        "problem: ground truth was asked for, and no frame could be compared with it: none has usable labels"
        " with a labelled pixel",
    ]
    assert "ground truth was asked for, and no frame could be compared with it" in junit.read_text()


def test_a_bag_with_labels_needs_no_image_topic(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = tmp_path / "bag"
    main(["bag", "make", str(bag), "--images", "street", "--frames", "2"])
    given = ["--model", str(small_model.path), "--engine", "torch", "--precision", "fp32"]
    assert main(["evaluate-bag", str(bag), *given, "--out", str(tmp_path / "out")]) == 0

    note = "the images are those of /camera/image; left aside: /camera/label (named as labels)"
    advice = "--image-topic takes any, --label-topic one that is the ground truth"
    assert f"note: {bag}: {note}; {advice}\n" in capsys.readouterr().out
    assert note in (tmp_path / "out" / "report" / "index.html").read_text()


def test_topics_of_ids_depth_copies_and_nothing_are_no_images_to_segment(
    small_model: ModelManifest, tmp_path: Path
) -> None:
    rgb, ids = street(0)
    topics = {
        "/front": image(rgb, BEGIN_NS),
        "/classes": image(ids, BEGIN_NS),
        "/classes_16": image(ids.astype(np.uint16), BEGIN_NS, encoding="16UC1", step=320, data=bytes_of(ids)),
        "/depth/image": image(rgb, BEGIN_NS),
    }
    bag = write_bag(tmp_path / "bag", [(name, BEGIN_NS, content) for name, content in topics.items()])
    chosen = {"image_topic": None, "label_topic": None}
    result = evaluate(bag, small_model, tmp_path / "out", **chosen)
    assert result["bags"][0]["image_topic"] == "/front"
    (note,) = result["notes"]
    for name, why in (
        ("/classes", "nothing but small ids"),
        ("/classes_16", "nothing but small ids"),
        ("/depth/image", "named as depth"),
    ):
        assert f"{name} ({why})" in note

    two = replace(topics["/front"], header=topics["/classes"].header)
    bag = write_bag(tmp_path / "two", [("/left", BEGIN_NS, two), ("/right", BEGIN_NS, two)])
    with pytest.raises(EvaluationError, match=r"choose one with --image-topic: /left .*, /right"):
        evaluate(bag, small_model, tmp_path / "none", **chosen)


def bytes_of(ids: np.ndarray) -> np.ndarray:
    return ids.astype("<u2").reshape(-1).view(np.uint8)


@pytest.mark.parametrize("at_once", [2, 3, FRAMES])
def test_labels_that_come_out_of_order_are_those_of_their_images(
    small_model: ModelManifest, tmp_path: Path, confusion: Any, at_once: int
) -> None:
    """As of a labeller with several threads, the last of which is ready first."""
    messages = []
    for first in range(0, FRAMES, at_once):
        numbers = range(first, min(first + at_once, FRAMES))
        for number in numbers:
            messages.append(("camera", proper(number), image(street(number)[0], proper(number))))
        for place, number in enumerate(reversed(numbers), 1):
            recorded_ns = proper(numbers[-1]) + place * 1_000_000
            messages.append(("truth", recorded_ns, image(street(number)[1], proper(number))))
    bag = write_bag(tmp_path / "bag", messages)
    result = evaluate(bag, small_model, tmp_path / "out")
    assert result["models"][0]["accuracy"]["frames"] == FRAMES
    assert result["models"][0]["accuracy"]["confusion"] == confusion
