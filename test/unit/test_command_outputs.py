"""What a command writes at its end: refused before the work where it cannot be, and one without another."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.models import shuffled

from rt_segmentation.cli import main
from rt_segmentation.commands.options import OptionError
from rt_segmentation.commands.outputs import check_outputs
from rt_segmentation.inference.engines.openvino_int8.calibration import ranges_from
from rt_segmentation.inference.engines.openvino_int8.ranges import QuantizationRanges, ranges_path
from rt_segmentation.models import ModelManifest
from rt_segmentation.weights import load_weights, save_model

FULL = Path("/dev/full")
OPTIONS = ("scenes=3", "frames_per_scene=1", "first_seed=100", "width=96", "height=64")
STREET = ["--dataset", "street", *(word for option in OPTIONS for word in ("--option", option))]


def everything(folder: Path) -> dict[str, bytes]:
    files = {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
    return {str(path): content for path, content in files.items()}


def check_of(path: Path) -> None:
    check_outputs(argparse.Namespace(json=path, pictures=None), files=("json",), folders=("pictures",))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder", r"Is a directory: '.*/folder'"),
        ("file/below.json", r"Not a directory: '.*/file'"),
        ("file/deep/below.json", r"Not a directory: '.*/file'"),
        ("nowhere/below.json", r"Not a directory: '.*/nowhere'"),
        ("n" * 300, r"File name too long: '.*/n+'"),
        ("new/" + "n" * 300, r"File name too long: '.*/n+'"),
    ],
)
def test_what_cannot_be_written_is_said_and_nothing_is_touched(
    name: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"before")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    before = everything(tmp_path)
    with pytest.raises(OptionError, match=f"^--json is .*, which cannot be written: .*{sentence}"):
        check_of(tmp_path / name)
    assert everything(tmp_path) == before


def test_rights_are_tried(tmp_path: Path) -> None:
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path
    tmp_path.chmod(0o500)
    for path in (folder / "file.json", folder / "new" / "file.json"):
        with pytest.raises(OptionError, match="which cannot be written: "):
            check_of(path)
    tmp_path.chmod(0o700)


def test_what_can_be_written_passes_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_gone").symlink_to(tmp_path / "gone")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = everything(tmp_path)
    for name in (
        "file",
        "pipe",
        "to_gone",
        "circle",
        "new",
        "a/b/new",
        "n" * 255,
        "../" + tmp_path.name + "/x",
    ):
        check_of(tmp_path / name)
    check_of(Path("/dev/null"))
    check_outputs(argparse.Namespace(out=tmp_path / "a" / "b"), folders=("out",))
    assert everything(tmp_path) == before


def test_two_outputs_are_two_files(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    both = argparse.Namespace(json=tmp_path / "file", junit=tmp_path / "link")
    with pytest.raises(OptionError, match=r"--json and --junit are both .*/link; give two files"):
        check_outputs(both, files=("json", "junit"))
    check_outputs(
        argparse.Namespace(json=Path("/dev/null"), junit=Path("/dev/null")), files=("json", "junit")
    )


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate --model nobody", "json"),
        ("evaluate --model nobody", "pictures"),
        ("compare nobody nobody", "json"),
        ("compare nobody nobody --no-class-worse-than 1", "junit"),
        ("compare nobody nobody", "pictures"),
        ("evaluate-bag gone --model nobody", "junit"),
        ("evaluate-bag gone --model nobody", "out"),
        ("report gone", "junit"),
        ("report gone", "out"),
        ("dataset stats --dataset nothing", "json"),
        ("dataset stats --dataset nothing", "out"),
        ("models import gone --name model", "out"),
        ("models check nobody gone", "out"),
        ("export --model nobody", "out"),
        ("submit cityscapes --model nobody --data-root gone", "out"),
        ("benchmark engines --models nobody", "out"),
        ("benchmark startup --models nobody", "out"),
        ("benchmark node --models nobody", "out"),
        ("segment street --model nobody", "out"),
        ("train nothing", "out"),
    ],
)
def test_commands_say_before_the_work_what_cannot_be_written(
    command: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"before")
    path = tmp_path / "file" / "below.png"
    assert main([*command.split(), f"--{option}", str(path)]) == 2
    assert f"--{option} is {path}, which cannot be written: " in capsys.readouterr().err
    assert everything(tmp_path) == {str(tmp_path / "file"): b"before"}


@pytest.mark.parametrize("command", ["export --engine openvino --model", "tune"])
def test_a_cache_that_cannot_be_written_is_said_before_the_work(
    command: str,
    small_model: ModelManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_bytes(b"before")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    for work in ("inference.engines.build_engine", "benchmark.engines.time_group"):
        monkeypatch.setattr(f"rt_segmentation.{work}", lambda *_, **__: pytest.fail("work has begun"))
    assert main([*command.split(), str(small_model.path)]) == 2
    sentence = capsys.readouterr().err
    assert "cannot be kept: " in sentence and f"'{tmp_path / 'file'}'; make room there" in sentence
    assert everything(tmp_path) == {str(tmp_path / "file"): b"before"}


@pytest.mark.parametrize("size", [["--width", "0"], ["--height", "-5"], ["--width", "99999"]])
def test_an_export_of_no_size_is_refused(
    size: list[str], small_model: ModelManifest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--model", str(small_model.path), "--engine", "none", *size]) == 2
    assert f"{size[1]}" in (sentence := capsys.readouterr().err) and ", both must be " in sentence


def test_ranges_that_cannot_be_written_are_said_before_frames_are_read(
    small_model: ModelManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "weights.int8.json").mkdir()
    model = replace(small_model, path=tmp_path / "model.yaml", weights="weights.safetensors")
    with pytest.raises(IsADirectoryError, match=r"weights\.int8\.json"):
        ranges_from(model, lambda height, width: pytest.fail("frames are read"))


def test_ranges_that_are_refused_do_not_take_the_place_of_good_ones(
    small_model: ModelManifest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = save_model(replace(small_model, path=tmp_path / "small.yaml"), load_weights(small_model))
    path = ranges_path(model)
    good = QuantizationRanges({}, {}, (), model.sha256)
    bad = replace(good, tensors={"gone": (0.0, 1.0)})

    def calibrate(*_: object) -> str:
        path.write_bytes(bad.to_json())
        return "found"

    monkeypatch.setattr("rt_segmentation.inference.engines.calibrate", calibrate)
    command = ["export", "--model", str(model.path), "--engine", "openvino", "--calibrate-images", "images"]
    for before, after in ((good, good), (replace(good, weights_sha256="0"), bad)):
        path.write_bytes(before.to_json())
        assert main(command) == 2
        sentence = capsys.readouterr().err
        assert "do not fit the graph" in sentence and ("earlier ones again" in sentence) is (after is good)
        assert path.read_bytes() == after.to_json()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("bag sample gone --strategy random", "sample"),
        ("dataset export coco", "labels.json"),
        ("dataset export png", "labels"),
        ("dataset prelabel gone --format cvat --model nobody", "labels.xml"),
    ],
)
def test_what_must_be_new_is_checked_before_the_work_too(
    command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"before")
    assert main([*command.split(), "--out", str(tmp_path / "file" / name)]) == 2
    assert f"Not a directory: '{tmp_path / 'file'}'" in capsys.readouterr().err


def test_a_picture_of_unknown_kind_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, suffix in (("samples.foo", ".foo"), ("samples", "")):
        assert main(["dataset", "stats", "--dataset", "nothing", "--out", str(tmp_path / name)]) == 2
        assert f"which cannot be written: '{suffix}' is no image's suffix" in capsys.readouterr().err


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_what_fails_at_the_end_takes_nothing_else_with_it(
    small_model: ModelManifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pictures, numbers = str(small_model.path), tmp_path / "pictures", tmp_path / "c.json"
    street = [*STREET, "--engine", "torch"]

    def ends(command: list[str], failed: str, of: int = 2) -> str:
        assert main(command) == 2
        said = capsys.readouterr()
        assert failed in said.err
        end = f"rt_seg {command[0]}: 1 of {of} outputs could not be written, as said above\n"
        assert said.err.endswith(end)
        return str(said.out)

    full = f"No space left on device: '{FULL}'"
    evaluate = ["evaluate", "--model", model, *street, "--pictures", str(pictures)]
    assert "mean_iou" in ends([*evaluate, "--json", str(FULL)], full)
    assert len(list(pictures.iterdir())) == 3
    assert "3 frames" in ends(
        ["dataset", "stats", *STREET, "--json", str(FULL), "--out", str(tmp_path / "s.png")], full
    )
    assert (tmp_path / "s.png").is_file()

    # What is missed is printed, and the status is of what could not be written.
    other = str(shuffled(small_model, tmp_path / "other.yaml").path)
    compare = ["compare", model, other, *street, "--no-class-worse-than", "0.1", "--json", str(numbers)]
    compare += ["--junit", str(FULL), "--pictures", str(pictures)]
    said = ends(compare, full, 3)
    assert "failed: " in said and "the frames that changed most" in said
    assert numbers.is_file() and (pictures / "most_changed.png").is_file()
    (pictures / "most_changed.png").unlink()
    (pictures / "most_changed.png").mkdir()
    numbers.unlink()
    compare[compare.index(str(FULL))] = str(tmp_path / "j.xml")
    assert "the frames that changed most" not in ends(compare, "most_changed.png cannot be written: ", 3)
    assert numbers.is_file() and (tmp_path / "j.xml").is_file()
