"""The day on a GPU machine: packed data, trainings side by side in short calls, and its dry run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tiny_recipe import RECIPE

pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install 'rt_segmentation[train]'")

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "gpu_day.sh"


def call(*arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": python}
    return subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, timeout=3600, check=False
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A packed data set, of which a training on streets reads nothing."""
    path = tmp_path / "packed" / "camvid.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for name in ("train/images/a.png", "train/labels/a.png", "val/images/b.png", "val/labels/b.png"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def recipe(folder: Path, name: str, **changes: Any) -> str:
    street = {"dataset": "street", "frames_per_scene": 1, "width": 96, "height": 64}
    content = {
        **RECIPE,
        "name": name,
        "train": [{**street, "scenes": 4, "first_seed": 1000}],
        "validation": {**street, "scenes": 1, "first_seed": 50},
        "epochs": 1,
        "batch_size": 2,
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_a_dry_run_says_all_and_does_nothing(tmp_path: Path, data: Path) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    options = ["--data", str(data), "--out", str(out), "--results", str(results), "--dry-run"]
    ran = call("train", *options)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    commands = [line for line in lines if " train " in line]
    assert [line.split(" train ")[1].split()[0] for line in commands] == [
        *(f"{network}_open_road_gpu" for network in ("enet", "linknet", "lednet")),
        *(f"{network}_open_road_gpu_student" for network in ("enet", "linknet", "lednet")),
        *(f"{network}_open_road_gpu_lovasz" for network in ("enet", "linknet", "lednet")),
    ]
    assert [i for i, line in enumerate(lines) if line == "-- then --"] == [3, 7, 11]
    assert all(f"--data-root {data.parent / 'data'} --out {out}" in line for line in commands)
    assert "--folds" not in ran.stdout
    folds = call("train", *options, "--folds").stdout
    assert folds.count("--folds") == 6 and "enet_folds_gpu_open.yaml" in folds
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["camvid.tar", "packed"]


def test_it_packs_what_it_trains_on(tmp_path: Path) -> None:
    script = tmp_path / "tools" / "gpu_day.sh"
    script.parent.mkdir()
    script.write_bytes(SCRIPT.read_bytes())
    folder = tmp_path / "CamVid"
    for part in ("train/images", "train/labels", "val/images", "val/labels", "test/images"):
        (folder / part).mkdir(parents=True)
        (folder / part / "a.png").write_bytes(b"x")
    (tmp_path / "elsewhere.png").write_bytes(b"x")
    (folder / "train" / "images" / "a.png").unlink()
    (folder / "train" / "images" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    subprocess.run(["bash", str(script), "pack", str(folder)], check=True)
    packed = tmp_path / "build" / "gpu_day" / "camvid.tar"
    with tarfile.open(packed) as tar:
        files = sorted(member.name for member in tar if member.isfile())
    assert files == [f"{s}/{k}/a.png" for s in ("train", "val") for k in ("images", "labels")]
    subprocess.run(["bash", str(script), "pack", str(packed)], check=True)
    (folder / "val" / "labels" / "a.png").unlink()
    ran = subprocess.run(
        ["bash", str(script), "pack", str(folder)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2 and "has no files in val/labels" in ran.stderr


@pytest.fixture
def quick(tmp_path: Path) -> str:
    """A Python whose recipes have their paths' names, and whose trainings write how they were called."""
    path = tmp_path / "a python"
    path.write_text(
        """#!/bin/bash
        if [ "$1" = - ]; then
            for given in ${2//,/ }; do printf '%s\\t%s\\n' "$given" "$(basename "$given" .yaml)"; done
        else
            out=$8 name=$(basename "$4" .yaml)
            mkdir -p "$out/$name"
            cp -r "$6" "$out/$name/data"
            if [ "$name" = slow ]; then echo $$ > "$out/pid"; exec sleep 600; fi
            if [ "$name" = killed ]; then kill -9 $$; fi
            printf '%s\\n' "$@" > "$out/$name/score.yaml"
        fi
        """
    )
    path.chmod(0o755)
    return str(path)


def test_folders_may_have_spaces(tmp_path: Path, data: Path, quick: str) -> None:
    elsewhere = tmp_path / "my data"
    data.parent.rename(elsewhere)
    options = ["--data", str(elsewhere / data.name), "--out", str(tmp_path / "my runs")]
    options += ["--results", str(tmp_path / "my results"), "one,two"]
    dry = call("train", "--dry-run", *options, python=quick)
    assert "/my\\ data/data --out " in dry.stdout and "/my\\ runs --workers" in dry.stdout
    ran = call("train", *options, python=quick)
    assert ran.stdout.endswith("all has ended\n"), ran.stderr
    for name in ("one", "two"):
        given = (tmp_path / "my runs" / name / "score.yaml").read_text().splitlines()
        assert given[:6] == ["-m", "rt_segmentation.cli", "train", name, "--data-root", f"{elsewhere}/data"]
    assert (tmp_path / "my results" / "results.tar.aa").stat().st_size


def test_paths_are_the_callers(tmp_path: Path, data: Path, quick: str) -> None:
    recipe(tmp_path, "one")
    command = [str(SCRIPT), "train", "--data", "packed/camvid.tar", "--out", "out", "one.yaml,two"]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHON": "./a python"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "out" / "one" / "score.yaml").read_text().splitlines()[3] == str(tmp_path / "one.yaml")
    assert (tmp_path / "out" / "two" / "score.yaml").read_text().splitlines()[3] == "two"
    ran = subprocess.run(
        [str(SCRIPT), "pack", "nothing"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.stderr == f"gpu_day: there is no folder or file {tmp_path}/nothing\n"


def test_other_data_of_the_same_name_are_unpacked_anew(tmp_path: Path, data: Path, quick: str) -> None:
    options = ["--data", str(data), "--out", str(tmp_path / "out")]
    assert call("train", *options, "one", python=quick).returncode == 0
    with tarfile.open(data, "a") as tar:
        tar.addfile(tarfile.TarInfo("train/images/c.png"), io.BytesIO())
    assert call("train", *options, "one,two", python=quick).returncode == 0
    seen = [
        (tmp_path / "out" / name / "data" / "train" / "images" / "c.png").exists() for name in ("one", "two")
    ]
    assert seen == [False, True]


def test_what_cannot_be_written_is_said_and_replaces_nothing(tmp_path: Path, data: Path, quick: str) -> None:
    (tmp_path / "file").touch()
    for option in ("--out", "--results"):
        options = {"--out": str(tmp_path / "out"), option: str(tmp_path / "file" / "folder")}
        given = [part for pair in options.items() for part in pair]
        ran = call("train", "--data", str(data), *given, "one", python=quick)
        said = f"gpu_day: folder {tmp_path}/file/folder cannot be made or written to\n"
        assert (ran.returncode, ran.stderr) == (2, said)
        assert not (tmp_path / "out" / "one").exists(), "before anything is trained"
    results = tmp_path / "results"
    results.mkdir()
    (results / "results.tar.aa").write_text("those before")
    # As on a full disk: what tar gives cannot be taken.
    (tmp_path / "split").write_text("#!/bin/bash\nexit 1\n")
    (tmp_path / "split").chmod(0o755)
    environment = {**os.environ, "PYTHON": quick, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(SCRIPT), "train", "--data", str(data), "--out", str(tmp_path / "out"), "one"]
    ran = subprocess.run(
        [*command, "--results", str(results)], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1 and "all has ended" not in ran.stdout
    assert f"the results could not be written to {results}" in ran.stderr
    assert [path.read_text() for path in results.iterdir()] == ["those before"]


def test_a_training_that_somebody_kills_has_failed(tmp_path: Path, data: Path, quick: str) -> None:
    """To call again, as after the time is over, might never end: the system's memory is short again then."""
    ran = call("train", "--data", str(data), "--out", str(tmp_path / "out"), "killed", python=quick)
    assert ran.returncode == 1 and "time is over" not in ran.stdout
    first, last = ran.stderr.splitlines()
    assert first == "gpu_day: killed was killed by signal 9"
    assert last.startswith("gpu_day: the training of killed failed; ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_trainings_too(tmp_path: Path, data: Path, quick: str, number: int) -> None:
    out = tmp_path / "out"
    command = [str(SCRIPT), "train", "--data", str(data), "--out", str(out), "slow"]
    script = subprocess.Popen(command, env={**os.environ, "PYTHON": quick}, stderr=subprocess.PIPE, text=True)
    training = out / "pid"
    try:
        until = time.monotonic() + 60
        while not (training.exists() and training.read_text()):
            assert script.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        script.send_signal(number)
        _, said = script.communicate(timeout=60)
    finally:
        script.kill()
    assert (script.returncode, said) == (128 + number, "gpu_day: stopped; call again to go on\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(training.read_text()), 0)


@pytest.mark.long
def test_calls_go_on_until_all_has_ended(tmp_path: Path, data: Path) -> None:
    out, results = tmp_path / "out", tmp_path / "results"
    stages = [
        ",".join((recipe(tmp_path, "one"), recipe(tmp_path, "two", seed=2))),
        recipe(tmp_path, "three", init_from="one"),
    ]
    options = ["--data", str(data), "--out", str(out), "--results", str(results), "--workers", "1"]
    (out / "elsewhere").mkdir(parents=True)
    (out / "elsewhere" / "elsewhere.yaml").touch()
    # Too short to import anything: the trainings are stopped, and nothing is called a failure.
    ran = call("train", "--minutes", "0.03", *options, *stages)
    assert (ran.returncode, ran.stderr) == (3, "")
    assert "time is over" in ran.stdout and "call again" in ran.stdout
    assert not (out / "three").exists()

    options += ["--minutes", "60"]  # on however busy a machine
    ran = call("train", *options, *stages)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line.split(" has ended")[0] for line in ran.stdout.splitlines()][:2] == ["one", "two"]
    assert ran.stdout.splitlines()[-1] == "all has ended"
    assert all((out / name / "score.yaml").is_file() for name in ("one", "two", "three"))
    pieces = b"".join(path.read_bytes() for path in sorted(results.glob("results.tar.*")))
    with tarfile.open(fileobj=io.BytesIO(pieces)) as tar:
        names = tar.getnames()
    for name in ("one", "two", "three"):
        for file in (f"{name}.yaml", f"{name}.safetensors", "score.yaml", "log.csv", "recipe.yaml"):
            assert any(path.endswith(f"out/{name}/{file}") for path in names)
        assert any(path.endswith(f"out/{name}.log") for path in names)
    assert not any(path.endswith(".ckpt") or "elsewhere" in path for path in names)

    # What has ended is not trained again; what fails is named, with what it said.
    weights = (out / "one" / "one.safetensors").stat().st_mtime_ns
    stages.append(recipe(tmp_path, "four", batch_size=9))
    ran = call("train", *options, *stages)
    assert ran.returncode == 1
    assert "one has ended" in ran.stdout
    assert (out / "one" / "one.safetensors").stat().st_mtime_ns == weights
    assert "there are 4 frames to train on" in ran.stderr
    assert f"the training of four failed; {out / 'four.log'} says why" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere.tar", "--dry-run"], "/nowhere.tar; make it with"),
        (["train", "--minutes", "soon"], "--minutes is 'soon', it must be a number above 0"),
        (["train", "--minutes"], "--minutes needs a value"),
        (["train", "--workers", "few"], "--workers is 'few', it must be a whole number"),
        (["train", "--quick"], "unknown option --quick"),
        (["pack"], "pack needs one folder or .tar"),
        (["pack", "/nowhere"], "there is no folder or file /nowhere"),
        (["play"], "unknown command 'play'; there are pack and train"),
    ],
    ids=str,
)
def test_wrong_use_is_one_sentence(arguments: list[str], message: str) -> None:
    ran = call(*arguments)
    assert ran.returncode == 2
    assert message in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_a_wrong_recipe_is_named_before_anything_trains(tmp_path: Path, data: Path) -> None:
    good, out = recipe(tmp_path, "one"), tmp_path / "out"
    ran = call("train", "--data", str(data), "--out", str(out), good, "no_such_recipe")
    assert ran.returncode == 2
    (said,) = ran.stderr.splitlines()
    assert said.startswith("gpu_day: unknown recipe 'no_such_recipe'")
    assert not out.exists()
