"""The command line's end: one sentence for what a user caused, a traceback for what the package did."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rt_segmentation.cli import UNREAD, main
from rt_segmentation.commands import parameters


def test_bad_input_is_a_sentence_and_its_traceback_can_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["models", "show", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("rt_seg models: unknown model 'nothing'")
    monkeypatch.setenv("RT_SEG_TRACEBACK", "1")
    assert main(["models", "show", "nothing"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("shapes (3,) (4,)"), RuntimeError("sizes"), KeyError("x")])
def test_a_fault_of_the_package_is_not_taken_for_bad_input(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(parameters, "main", fail)
    with pytest.raises(type(error)):
        main(["parameters", "yaml"])
    assert "this is a fault of rt_segmentation" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["models", "list"], ["parameters", "yaml"]])
def test_a_reader_that_goes_away_is_no_error_to_be_read(command: list[str]) -> None:
    """As `rt_seg models list | head -1` does, whether little is printed or more than a buffer."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "rt_segmentation.cli", *command],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (UNREAD, b"")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("rt_segmentation 0.")


def test_a_shell_gets_completions(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete", reason="argcomplete is not installed: a shell has no completion")
    for line, wanted in (
        ("rt_seg segm", ["segment"]),
        ("rt_seg segment --overw", ["--overwrite"]),
        ("rt_seg benchmark node --par", ["--parallel"]),
    ):
        environment = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "found"),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        done = subprocess.run(
            [sys.executable, "-m", "rt_segmentation.cli"], env=environment, capture_output=True, text=True
        )
        assert (tmp_path / "found").read_text().split() == wanted, done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export --model enet --batch 0", "--batch is 0; it must be 1 or more"),
        ("bag make {out} --images street --frames -3", "--frames is -3, it must be 1 or more"),
        ("bag make {out} --images street --frames 0", "--frames is 0, it must be 1 or more"),
        ("bag make {out} --images street --rate inf", "--rate is inf, it must be above 0"),
        ("bag make {out} --images street --start-time nan", "--start-time is nan, it must be from 0"),
        ("bag make {out} --images street --start-time 1e30", "--start-time is 1e+30, it must be from 0"),
    ],
)
def test_numbers_out_of_their_range_are_a_sentence(
    command: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command.format(out=out).split()) == 2
    assert words in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train enet_camvid --workers -1", "--workers: '-1' is not a whole number of 0 or more"),
        ("train enet_camvid --workers 1.5", "--workers: '1.5' is not a whole number of 0 or more"),
        ("train enet_camvid --max-hours nan", "--max-hours: 'nan' is not a number of 0 or more"),
        ("train enet_camvid --checkpoint-s inf", "--checkpoint-s: 'inf' is not a number of 0 or more"),
        ("export --model enet --calibrate-frames 0", "'0' is not a whole number of 1 or more"),
        ("demo --seconds nan", "--seconds: 'nan' is not a number of 1 or more"),
        ("demo --rate inf", "--rate: 'inf' is not a number of 0.01 or more"),
    ],
)
def test_numbers_that_are_none_are_refused_at_once(
    command: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("what", ["node", "engines"])
@pytest.mark.parametrize("given", ["inf", "nan", "-3", "soon"])
def test_a_benchmark_of_no_finite_time_is_refused(
    what: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["benchmark", what, f"--minutes={given}"])
    assert f"'{given}' is not a number of minutes of 0 or more" in capsys.readouterr().err
