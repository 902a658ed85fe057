"""`rt_seg evaluate-bag` as people and scripts call it: files, exit codes, signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("jinja2", reason="Jinja2 is not installed: no report")

from rosbags.rosbag2 import Writer
from support.street_bags import BEGIN_NS, IMAGE, TYPES, image, street, street_bag, without_timings, write_bag

from rt_segmentation.bags.reading import BagReader
from rt_segmentation.cli import main
from rt_segmentation.evaluation.bag.result import read_result
from rt_segmentation.evaluation.bag.run import MARK, RESULT, claim_folder
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.models import ModelManifest

LONG_FRAMES = 150
SECOND_NS = 1_000_000_000
PATIENCE_S = 120.0
FULL = Path("/dev/full")


def command(bag: Path, model: ModelManifest, out: Path, *more: str) -> list[str]:
    given = ("--model", str(model.path), "--engine", "torch", "--precision", "fp32", "--out", str(out))
    return ["evaluate-bag", str(bag), "--image-topic", "camera", "--label-topic", "truth", *given, *more]


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return street_bag(tmp_path_factory.mktemp("bags") / "street", 6)


@pytest.fixture(scope="module")
def long_bag(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two and a half minutes at 1 Hz: fifteen splits of masks."""
    return street_bag(tmp_path_factory.mktemp("bags") / "long", LONG_FRAMES, period_ns=SECOND_NS)


def test_the_files_and_the_table(
    bag: Path, small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(bag, small_model, out)) == 0
    result = read_result(out / "evaluation.json").to_plain()
    assert result["models"][0]["name"] == "small" and result["bags"][0]["frames"] == 6
    assert (out / "report" / "index.html").is_file() and (out / "report" / "report.md").is_file()
    heads, row = capsys.readouterr().out.splitlines()[:2]
    accuracy = result["models"][0]["accuracy"]
    assert "torch fp32" in row
    # The frames that were compared with labels, which may be fewer than those that came.
    assert heads.split()[-5:] == ["labelled", "mean", "IoU", "95", "%"]
    assert row.split()[-3:-1] == [str(accuracy["frames"]), f"{accuracy['mean_iou']:.4f}"]


def test_no_ros_is_needed(bag: Path, small_model: ModelManifest, tmp_path: Path) -> None:
    arguments = command(bag, small_model, tmp_path / "out")
    without_ros = f"""
import sys
sys.modules["rclpy"] = sys.modules["sensor_msgs"] = None
from rt_segmentation.cli import main
sys.exit(main({arguments!r}))
"""
    assert subprocess.run([sys.executable, "-c", without_ros]).returncode == 0


def test_results_are_overwritten_only_when_that_is_asked_for(
    bag: Path, small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert main(command(bag, small_model, out)) == 0
    before = (out / "evaluation.json").read_bytes()
    assert main(command(bag, small_model, out)) == 2
    assert "holds an evaluation: give --overwrite" in capsys.readouterr().err
    assert (out / "evaluation.json").read_bytes() == before
    assert main(command(bag, small_model, out, "--overwrite")) == 0
    other.mkdir()
    (other / "frames").write_text("a diary")
    assert main(command(bag, small_model, other, "--overwrite")) == 2
    assert "holds something else than an evaluation" in capsys.readouterr().err
    assert (other / "frames").read_text() == "a diary"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--roi", "0", "0", "64", "5"), "--roi is 0 0 64 5: x and y must be 0 or more, width and height"),
        (("--model", "nobody"), "unknown model 'nobody'"),
        (("--engine", "steam"), "steam"),
        (("--fail-under-miou", "60"), "the threshold on the mean IoU is 60; it must be from 0 to 1"),
        (("--labels", "nowhere"), "from --label-topic or from --labels, not from both"),
        (("--jobs", "-1"), "--jobs is -1; it must be at least 1"),
        (("--jobs", "0", "--ray", "local"), "--jobs is 0; it must be at least 1"),
        ((), "no bag could be read; "),
    ],
)
def test_bad_arguments_replace_nothing(
    bag: Path,
    small_model: ModelManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    out = tmp_path / "out"
    (out / "state").mkdir(parents=True)
    (out / "evaluation.json").write_text("the last one")
    given = bag if arguments else tmp_path / "gone"
    assert main(command(given, small_model, out, "--overwrite", *arguments)) == 2
    assert sentence in capsys.readouterr().err
    assert (out / "evaluation.json").read_text() == "the last one"


def test_a_refusal_leaves_nothing_behind_and_the_status_tells(
    bag: Path, small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "broken.mcap", tmp_path / "new" / "out"
    broken.write_bytes(b"no bag at all" * 100)
    arguments = command(broken, small_model, out)
    assert main(arguments) == 2
    assert "no bag could be read" in capsys.readouterr().err and not out.parent.exists()
    out.mkdir(parents=True)
    assert main(arguments) == 2
    assert list(out.iterdir()) == []
    # Beside one that can be read.
    assert main([arguments[0], str(bag), *arguments[1:]]) == 2
    printed, said = capsys.readouterr()
    assert "problem: " in printed and (out / "evaluation.json").is_file()
    assert said.endswith("rt_seg evaluate-bag: 1 of 2 bags could not be read, see the problems\n")


def test_no_image_that_can_be_segmented_is_no_success(
    bag: Path, small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, unknown = tmp_path / "empty", tmp_path / "unknown"
    with Writer(empty, version=8) as writer:
        writer.add_connection("camera", IMAGE, typestore=TYPES)
    frames = [image(street(0)[0], i, encoding="what") for i in range(3)]
    write_bag(unknown, [("camera", i, frame) for i, frame in enumerate(frames)])
    given = ["--model", str(small_model.path), "--engine", "torch", "--precision", "fp32", "--overwrite"]
    for bags, problem, said in (
        ([empty], f"problem: {empty}: topic camera has no messages", "1 of 1 bags have no images, see"),
        ([bag, empty], f"problem: {empty}: topic camera has no messages", "1 of 2 bags have no images, see"),
        ([unknown], "The image encoding 'what' is not known", "none of the images could be segmented, see"),
    ):
        paths = [str(path) for path in bags]
        arguments = [
            "evaluate-bag",
            *paths,
            "--image-topic",
            "camera",
            *given,
            "--out",
            str(tmp_path / "out"),
        ]
        assert main(arguments) == 2
        printed, error = capsys.readouterr()
        assert problem in printed and said in error


def test_what_was_killed_before_its_first_save_is_gone_on_with_or_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options in ({"overwrite": False, "resume": True}, {"overwrite": True, "resume": False}):
        claim_folder(out, overwrite=False, resume=False)
        (out / "frames" / "small").mkdir(parents=True)
        (out / "frames" / "small" / "0000_000000.jpg").touch()
        with pytest.raises(EvaluationError, match="holds an evaluation: give --overwrite, --resume"):
            claim_folder(out, overwrite=False, resume=False)
        claim_folder(out, **options)
        shutil.rmtree(out)


def test_what_others_wrote_is_never_taken_for_an_evaluation(tmp_path: Path) -> None:
    for name in ("state/robot.yaml", "videos/holiday.mp4", "masks/drawn.png", "evaluation.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for options in ({"overwrite": True, "resume": False}, {"overwrite": False, "resume": True}):
        with pytest.raises(EvaluationError, match="holds something else than an evaluation"):
            claim_folder(tmp_path, **options)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4


@pytest.mark.parametrize("name", ["state/0000.json", "evaluation.json"])
def test_an_evaluation_without_a_mark_is_one_all_the_same(tmp_path: Path, name: str) -> None:
    """As earlier versions wrote them."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"bags": [], "models": [], "lacks_truth": false}')
    claim_folder(tmp_path, overwrite=True, resume=False)
    assert not (tmp_path / name).exists()


def test_thresholds_decide_the_exit_code(bag: Path, small_model: ModelManifest, tmp_path: Path) -> None:
    junit = tmp_path / "verdict.xml"
    kept = ("--fail-under-miou", "0.001", "--max-drop-rate", "0", "--junit", str(junit))
    assert main(command(bag, small_model, tmp_path / "kept", *kept)) == 0
    assert ElementTree.parse(junit).getroot().find(".//failure") is None
    missed = ("--fail-under-miou", "0.999")
    with pytest.raises(SystemExit) as ended:
        main(command(bag, small_model, tmp_path / "missed", *missed))
    assert ended.value.code == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_video_that_cannot_be_written_is_told_at_the_end(
    jobs: str, bag: Path, small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # A link to where there can be no folder.
    (out / "state").mkdir(parents=True)
    (out / "state" / MARK).touch()
    (out / "videos").symlink_to(tmp_path / "gone" / "videos")
    assert main(command(bag, small_model, out, "--video", "--overwrite", "--jobs", jobs)) == 2
    said = capsys.readouterr()
    assert said.err.endswith("rt_seg evaluate-bag: 1 output could not be written, see the problems\n")
    assert f"problem: {bag}: " in said.out and "videos" in said.out and "small " in said.out
    assert read_result(out / RESULT).models[0].segmented == 6 and (out / "report" / "index.html").is_file()


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_verdict_that_cannot_be_written_takes_nothing_with_it(
    bag: Path, small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    junit = ("--fail-under-miou", "0.999", "--junit", str(FULL))
    assert main(command(bag, small_model, out, *junit)) == 2
    said = capsys.readouterr()
    assert f"No space left on device: '{FULL}'\nrt_seg evaluate-bag: 1 of 3 outputs could not" in said.err
    missed = "failed: small: the mean IoU is "
    assert missed in said.out and said.out.endswith(f"\n\n{out / RESULT}\n{out / 'report' / 'index.html'}\n")
    (out / "report" / "index.html").unlink()
    assert main(["report", str(out / RESULT), *junit]) == 2
    said = capsys.readouterr()
    assert "1 of 2 outputs could not be written" in said.err and missed in said.out
    assert (out / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--rate", "0"), "--rate is 0; it must be from 0.01 to 100"),
        (("--rate", "nan"), "--rate is nan; it must be from 0.01 to 100"),
        (("--rate", "1e-300"), "--rate is 1e-300; it must be from 0.01 to 100"),
        (("--roi", "0", "0", "64", "5"), "--roi is 0 0 64 5: x and y must be 0 or more, width and height"),
        (("--model", "nobody"), "unknown model 'nobody'"),
        (("--label-topic", "lies"), "the bag has no topic lies"),
    ],
)
def test_bad_arguments_end_with_a_sentence(
    bag: Path,
    small_model: ModelManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    assert main(command(bag, small_model, tmp_path / "out", *arguments)) == 2
    assert sentence in capsys.readouterr().err


def test_without_a_topic_the_candidates_are_named(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb, labels = street(0)
    topics = {"camera": rgb, "rear": rgb, "truth": labels}
    bag = write_bag(
        tmp_path / "bag", [(name, BEGIN_NS, image(pixels, BEGIN_NS)) for name, pixels in topics.items()]
    )
    out = str(tmp_path / "out")
    assert main(["evaluate-bag", str(bag), "--model", str(small_model.path), "--out", out]) == 2
    error = capsys.readouterr().err
    assert "several image topics, choose one with --image-topic: camera (1 messages), rear" in error
    # The corrected command finds nothing in its way.
    assert main(command(bag, small_model, Path(out))) == 0


class Evaluation:
    """The command in a process of its own, once it has saved its state for the first time."""

    def __init__(self, arguments: list[str], out: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rt_segmentation.cli", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not (out / "state" / "0000.json").is_file():
            assert self.process.poll() is None and time.monotonic() < deadline, self.process.communicate()[0]
            time.sleep(0.005)

    def end(self, number: signal.Signals) -> int:
        """Send a signal; returns the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode


@pytest.fixture(scope="module")
def whole(long_bag: Path, small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of an evaluation that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert main(command(long_bag, small_model, out)) == 0
    return without_timings(json.loads((out / "evaluation.json").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_partial_result_and_whole_files(
    long_bag: Path, small_model: ModelManifest, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    evaluation = Evaluation(command(long_bag, small_model, out, "--write-bag"), out)
    assert evaluation.end(number) == 128 + number
    result = read_result(out / "evaluation.json").to_plain()
    frames = result["bags"][0]["frames"]
    assert result["partial"] and 10 <= frames < LONG_FRAMES
    assert (out / "report" / "index.html").is_file()
    with BagReader(out / "masks" / "0000_long") as reader:
        assert {topic.count for topic in reader.topics} == {frames}


def test_what_was_killed_goes_on_and_ends_as_if_nothing_had_been(
    long_bag: Path, small_model: ModelManifest, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    arguments = command(long_bag, small_model, out, "--write-bag")
    assert Evaluation(arguments, out).end(signal.SIGKILL) == -signal.SIGKILL
    assert not (out / "evaluation.json").exists()
    masks = out / "masks" / "0000_long"
    with BagReader(masks) as reader:
        saved = list(reader.messages({"/small/label"}))
        assert reader.damage is None and 10 <= len(saved) < LONG_FRAMES
    assert main([*arguments, "--resume"]) == 0
    assert without_timings(json.loads((out / "evaluation.json").read_text())) == whole
    with BagReader(masks) as reader:
        assert {topic.count for topic in reader.topics} == {LONG_FRAMES}
        stamps = [message.recorded_ns for message in reader.messages({"/small/label"})]
    assert stamps == sorted(set(stamps)) and len(stamps) == LONG_FRAMES
