"""`rt_seg compare`: scores of two models with intervals, verdicts, pictures, and what is refused."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")

from support.models import shuffled
from support.street_bags import BEGIN_NS, PERIOD_NS, image, street, street_bag, write_bag

from rt_segmentation.cli import main
from rt_segmentation.evaluation.bag.ids import IdTable
from rt_segmentation.evaluation.bootstrap import (
    DRAWS,
    block_length,
    class_ious,
    draw_class_ious,
    interval,
    mean_ious,
)
from rt_segmentation.evaluation.comparison import tally as tally_module
from rt_segmentation.evaluation.comparison.bags import BagData, frames_of_bag
from rt_segmentation.evaluation.comparison.pictures import MostChanged, comparison_picture
from rt_segmentation.evaluation.comparison.running import Compared
from rt_segmentation.evaluation.comparison.tally import Change, Tally
from rt_segmentation.evaluation.metrics import ConfusionMatrix
from rt_segmentation.imaging.frame import Frame
from rt_segmentation.labels import LabelClass, LabelSet, ids_by_name
from rt_segmentation.models import ModelManifest
from rt_segmentation.weights import load_weights, save_model

LABELS = LabelSet("three", tuple(LabelClass(i, n, (i, 0, 0), n) for i, n in enumerate(("a", "b", "c"))))


def random_blocks(blocks: int, seed: int = 0) -> np.ndarray:
    """Counts of two models, (2, blocks, 3, 4); the second one is right more often."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 60, (2, blocks, 3, 4))
    for i in range(3):
        counts[0, :, i, i] += rng.integers(100, 200, blocks)
        counts[1, :, i, i] += rng.integers(150, 250, blocks)
    return counts


def test_scores_are_those_of_the_confusion_matrix() -> None:
    for seed, ignored in ((0, ()), (1, (2,)), (2, (0, 1))):
        counts = random_blocks(1, seed)[0, 0]
        counts[:, 1 + seed % 2] = counts[1 + seed % 2] = 0
        matrix = ConfusionMatrix(3, ignored)
        matrix.counts[:] = counts
        assert np.array_equal(class_ious(counts, ignored), matrix.class_iou(), equal_nan=True)
        assert mean_ious(class_ious(counts, ignored)) == matrix.mean_iou()
    assert np.isnan(mean_ious(class_ious(np.zeros((3, 4)))))


def test_the_interval_is_that_of_all_draws_there_are() -> None:
    # Of five blocks there are 5^5 draws: all of them, one by one, by the definition of the IoU.
    blocks = random_blocks(5)
    differences = []
    for draw in itertools.product(range(5), repeat=5):
        ious = []
        for own in blocks:
            total = own[list(draw)].sum(0)
            hits = total[1, 1]
            ious.append(hits / (total[1].sum() + total[:, 1].sum() - hits))
        differences.append(ious[1] - ious[0])
    exact = np.percentile(differences, (2.5, 97.5))
    drawn = draw_class_ious(blocks)
    assert drawn is not None and drawn.shape == (2, DRAWS, 3)
    found = interval(drawn[1, :, 1] - drawn[0, :, 1])
    spread = np.std(differences)
    assert np.abs(np.array(found) - exact).max() < 0.3 * spread
    assert abs(np.mean(drawn[1, :, 1] - drawn[0, :, 1]) - np.mean(differences)) < 0.15 * spread
    assert draw_class_ious(blocks[:, :4]) is None and draw_class_ious(np.zeros((2, 9, 3, 4), int)) is None


def test_the_interval_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    blocks = random_blocks(40, 5)

    def difference(chosen: np.ndarray) -> float:
        total = blocks[:, chosen.astype(int)].sum(1)
        ious = class_ious(total)
        return float(mean_ious(ious[1]) - mean_ious(ious[0]))

    theirs = stats.bootstrap(
        (np.arange(40),), difference, vectorized=False, n_resamples=1000, method="percentile", random_state=1
    ).confidence_interval
    drawn = draw_class_ious(blocks)
    assert drawn is not None
    ours = interval(mean_ious(drawn[1]) - mean_ious(drawn[0]))
    width = theirs.high - theirs.low
    assert abs(ours[0] - theirs.low) < 0.15 * width and abs(ours[1] - theirs.high) < 0.15 * width


def compared(number: int, right: tuple[float, float], truth: bool = True) -> Compared:
    """A frame of 24x32 of which the models have a share of the pixels right."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 3, (24, 32)).astype(np.uint8)
    wrong = (labels + 1) % 3
    old, new = (np.where(rng.random(labels.shape) < share, labels, wrong) for share in right)
    frame = Frame.from_rgb(np.full((24, 32, 3), 100, np.uint8))
    return Compared(f"frame {number}", frame, labels if truth else None, old, new, 2.0, 1.0)


def changes_of(frames: int, right: tuple[float, float]) -> dict[str, Change]:
    tally = Tally(LABELS)
    for number in range(frames):
        tally.add(compared(number, right))
    mean, classes = tally.changes()
    return {change.name: change for change in (mean, *classes)}


def test_better_worse_noise_and_unknown() -> None:
    assert {change.verdict for change in changes_of(30, (0.7, 0.8)).values()} == {"better"}
    assert {change.verdict for change in changes_of(30, (0.8, 0.7)).values()} == {"worse"}
    assert {change.verdict for change in changes_of(30, (0.7, 0.7)).values()} == {"noise"}
    few = changes_of(4, (0.7, 0.9))
    assert {change.verdict for change in few.values()} == {"unknown"} and few["a"].difference > 0.1


def test_a_class_in_few_blocks_has_no_interval() -> None:
    tally = Tally(LABELS, ignored=(1,))
    for number in range(30):
        frame = compared(number, (0.7, 0.8))
        if number and frame.truth is not None:
            frame.truth[frame.truth == 2] = 255
        tally.add(frame)
    _, (a, c) = tally.changes()
    assert (a.verdict, c.name, c.verdict) == ("better", "c", "unknown") and c.new > 0


def test_a_frame_without_a_class_that_is_evaluated_has_no_labels() -> None:
    """Nothing was measured on it, and a verdict must not pass because nothing got worse."""
    tally = Tally(LABELS, ignored=(1,))
    for number, (value, labelled) in enumerate(((255, 0), (1, 0), (2, 1))):
        frame = compared(number, (0.7, 0.8))
        assert frame.truth is not None
        frame.truth[:] = value
        tally.add(frame)
        assert (tally.frames, tally.labelled) == (number + 1, labelled)


def test_memory_is_bounded_and_blocks_end_with_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Tally(LABELS)
    monkeypatch.setattr(tally_module, "MAX_UNITS", 16)
    small = Tally(LABELS)
    for number in range(60):
        if number == 37:
            whole.begin_recording()
            small.begin_recording()
        frame = compared(number, (0.7, 0.75))
        whole.add(frame)
        small.add(frame)
        assert sum(map(len, small._recordings)) <= 17
    assert np.array_equal(whole._blocks().sum(1), small._blocks().sum(1))
    assert block_length(60) == 4 and whole._blocks().shape[1] == 10 + 6
    assert whole.changes()[0].old == small.changes()[0].old


def test_memory_is_bounded_with_many_classes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    colors = [(number, 0, 0) for number in range(150)]
    many = LabelSet("many", tuple(LabelClass(i, f"class {i}", color) for i, color in enumerate(colors)))
    tally = Tally(many)
    truth = np.arange(150, dtype=np.uint8).reshape(10, 15)
    for _ in range(400):
        tally.add(replace(compared(0, (0.7, 0.75)), truth=truth, old=truth, new=truth))
    kept = [unit for units in tally._recordings for unit in units]
    assert sum(unit.nbytes for unit in kept) <= 64 * 2**20 and len(kept) > 64
    mean, classes = tally.changes()
    assert (mean.old, mean.new, mean.interval, len(classes)) == (1.0, 1.0, (0.0, 0.0), 150)


def test_what_became_of_what() -> None:
    tally = Tally(LABELS)
    frame = compared(1, (1, 1), truth=False)
    frame.new[frame.old == 0] = 2
    tally.add(frame)
    (flow,) = tally.flows()
    assert (flow.old, flow.new, flow.share) == ("a", "c", 1.0)
    assert tally.agreement() == np.mean(frame.old != 0) and tally.labelled == 0


def test_the_frames_that_changed_most_are_not_neighbours() -> None:
    most = MostChanged(count=3, apart=5)
    shares = [0.9, 0.8, 1.0, 0.7, 0.5, 0.5, 0.5, 0.6, 0.9, 1, 1, 1, 1, 0.2]
    frames = [compared(number, (share, 1.0)) for number, share in enumerate(shares)]
    for frame in frames:
        most.add(frame)
    names = [frame.name for frame in most.frames]
    numbers = sorted(int(name.split()[1]) for name in names)
    assert 13 in numbers and min(np.diff(numbers)) >= 5
    assert comparison_picture(most.frames, LABELS).shape[1] == 5 * 360


def test_classes_go_by_their_names() -> None:
    theirs = LabelSet(
        "t", tuple(LabelClass(i, n, (0, 0, 0)) for i, n in enumerate(("Road", "traffic sign", "Sky", "x")))
    )
    ours = LabelSet(
        "o", tuple(LabelClass(i, n, (0, 0, 0)) for i, n in enumerate(("sky", "TrafficSign", "road", "Road")))
    )
    # 'Road' is exactly there, though two names are like it.
    assert ids_by_name(theirs, ours).tolist()[:5] == [3, 1, 0, 255, 255]


OPTIONS = ("scenes=5", "frames_per_scene=1", "first_seed=100", "width=96", "height=64")
STREET = ["--dataset", "street", *(w for o in OPTIONS for w in ("--option", o)), "--engine", "torch"]


@pytest.fixture(scope="module")
def other(small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> ModelManifest:
    """The small model with its classes in another order: wrong wherever that one is right."""
    return shuffled(small_model, tmp_path_factory.mktemp("other") / "other.yaml")


def test_compare_on_a_data_set(
    small_model: ModelManifest, other: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "c.json"), "--junit", str(tmp_path / "j.xml")]
    models = [str(small_model.path), str(other.path)]
    with pytest.raises(SystemExit) as end:
        main(
            ["compare", *models, *STREET, *files, "--no-class-worse-than", "0.1", "--pictures", str(tmp_path)]
        )
    said = capsys.readouterr().out
    assert end.value.code == 1 and "failed: " in said and "points of IoU; at most 0.1 are allowed" in said
    result = json.loads((tmp_path / "c.json").read_text())
    assert (result["frames"], result["labelled_frames"], result["agreement"]) == (5, 5, 0.0)
    assert [entry["name"] for entry in result["classes"]] == list(small_model.labels().names)
    assert result["old"]["sha256"] == small_model.sha256 and result["old"]["median_ms"] > 0
    (suite,) = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert suite.get("tests") == "12" and int(suite.get("failures", "0")) == said.count("failed: ")
    assert (tmp_path / "most_changed.png").is_file()

    # A model is as good as itself.
    assert not main(["compare", models[0], models[0], *STREET, "--no-class-worse-than", "0"])
    said = capsys.readouterr().out
    assert "the same label: 100.00% of the pixels" in said and "failed" not in said


def test_compare_on_bags(
    small_model: ModelManifest, other: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bags = [street_bag(tmp_path / "b1", 4), street_bag(tmp_path / "b2", 3, first=5)]
    models = [str(small_model.path), str(other.path), "--engine", "torch"]
    given = [word for bag in bags for word in ("--bag", str(bag))]
    out = tmp_path / "c.json"
    assert not main(["compare", *models, *given, "--label-topic", "truth", "--json", str(out)])
    result = json.loads(out.read_text())
    assert (result["frames"], result["labelled_frames"]) == (7, 7)
    assert result["mean_iou"]["old"] > 0 and result["data"] == "b1, b2"
    capsys.readouterr()

    # Without ground truth they are compared with one another, and no threshold can hold.
    arguments = ["compare", *models, "--bag", str(bags[0]), "--image-topic", "camera", "--json", str(out)]
    with pytest.raises(SystemExit):
        main([*arguments, "--no-class-worse-than", "5"])
    said = capsys.readouterr().out
    assert "4 frames, 0 with labels" in said and " now" in said
    assert "failed: no frame has a labelled pixel" in said
    assert json.loads(out.read_text())["classes"] == []
    assert not main(arguments)
    assert "failed" not in capsys.readouterr().out

    # What is named as ground truth and is none is no success either.
    with pytest.raises(SystemExit) as ended:
        main(["compare", *models, "--bag", str(bags[0]), "--label-topic", "camera", "--json", str(out)])
    said = capsys.readouterr().out
    assert ended.value.code == 1 and "failed: no frame has a labelled pixel" in said
    assert "the same label: " in said and json.loads(out.read_text())["classes"] == []


def test_a_damaged_bag_gives_no_verdict_of_whole_ones(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag, junit = street_bag(tmp_path / "bag", 4), tmp_path / "junit.xml"
    model = str(small_model.path)
    command = ["compare", model, model, "--bag", str(bag), "--label-topic", "truth", "--engine", "torch"]
    command += ["--no-class-worse-than", "5", "--junit", str(junit)]
    assert not main(command)
    (file,) = bag.glob("*.mcap")
    # Without its end the file has no index, and is read from front to back.
    file.write_bytes(file.read_bytes()[:-9])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "4 frames, 4 with labels" in said and f"failed: bag {bag}: bag.mcap " in said
    assert f"bag {bag} whole" in junit.read_text()


def test_what_is_wrong_with_many_frames_of_a_bag_is_one_note(tmp_path: Path) -> None:
    messages = []
    for number in range(7):
        rgb, labels = street(number)
        stamp = BEGIN_NS + number * PERIOD_NS
        unknown = {"encoding": "unknown"} if number > 3 else {}
        messages.append(("camera", stamp, image(rgb, stamp, **unknown)))
        messages.append(("truth", stamp, image(np.ascontiguousarray(labels[::2, ::2]), stamp)))
    data = BagData(write_bag(tmp_path / "bag", messages), "camera", "truth")
    notes: list[str] = []

    frames = list(frames_of_bag(data, IdTable(11), notes.append))

    assert len(frames) == 4 and all(truth is None for _, _, truth in frames)
    size, decoded = notes
    assert size == "labels of image 1 and 3 more are 80x60 px, the image is 160x120 px: they are left out"
    assert decoded.startswith("image 5 and 2 more cannot be decoded: ")


def test_an_old_model_of_other_classes(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [c.name for c in small_model.labels().classes]
    lines = [
        f"  - {{id: {i}, name: {n.lower()}, color: [{i}, 9, 0]}}" for i, n in enumerate([*names[1:], "bin"])
    ]
    (tmp_path / "own_labels.yaml").write_text("name: own\nclasses:\n" + "\n".join(lines) + "\n")
    new = save_model(
        replace(
            small_model,
            path=tmp_path / "own.yaml",
            name="own",
            weights="own.safetensors",
            label_set="own_labels.yaml",
        ),
        load_weights(small_model),
    )
    bag = street_bag(tmp_path / "bag", 2)
    models = [str(small_model.path), str(new.path), "--engine", "torch"]
    assert not main(["compare", *models, "--bag", str(bag), "--image-topic", "camera"])
    said = capsys.readouterr().out
    assert f"note: the new model has no {names[0]}: where the old one sees that it is wrong" in said
    assert "note: the old model has no bin: it cannot be right there" in said
    assert main(["compare", *models, *STREET[:-2]]) == 2
    assert "is not the data set's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--junit", "x"], "--junit writes the verdict of --no-class-worse-than"),
        (["--no-class-worse-than", "-1"], "it must be from 0 to 100 points"),
        (["--no-class-worse-than", "nan"], "it must be from 0 to 100 points"),
        (["--bag", "b", "--data-root", "d"], "--bag takes the place of a data set: leave out --data-root"),
        (["--bag", "b", "--split", "val", "--dataset", "street"], "leave out --dataset, --split"),
        (["--label-topic", "t"], "--label-topic is of a bag"),
        (["--bag", "gone"], "gone"),
    ],
)
def test_wrong_options_have_their_sentence(
    small_model: ModelManifest, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(small_model.path)
    assert main(["compare", path, path, "--engine", "torch", *options]) == 2
    assert sentence in capsys.readouterr().err
