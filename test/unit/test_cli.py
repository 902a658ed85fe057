"""The command line's end: one sentence for what a user caused, a traceback for what the package did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rt_segmentation.cli import UNREAD, main
from rt_segmentation.commands import dataset, parameters


def test_bad_input_is_a_sentence_and_its_traceback_can_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["models", "show", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("rt_seg models: unknown model 'nothing'")
    monkeypatch.setenv("RT_SEG_TRACEBACK", "1")
    assert main(["models", "show", "nothing"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "/data/run"), "No space left on device: '/data/run'"),
        (OSError("video a.mp4 cannot be written whole"), "video a.mp4 cannot be written whole"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(
    error: OSError, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(parameters, "main", fail)
    assert main(["parameters", "yaml"]) == 2
    assert capsys.readouterr().err == f"rt_seg parameters: {sentence}\n"


@pytest.mark.parametrize("error", [ValueError("shapes (3,) (4,)"), RuntimeError("sizes"), KeyError("x")])
def test_a_fault_of_the_package_is_not_taken_for_bad_input(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(parameters, "main", fail)
    # Whatever tests before this one have used.
    monkeypatch.setattr("rt_segmentation.cli.allowed_networks", lambda: ())
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


@pytest.mark.parametrize(
    ("command", "closed", "status"), [("models list", "1>&-", 0), ("models show nothing", "2>&-", 2)]
)
def test_a_process_without_stdout_or_stderr_prints_nowhere(command: str, closed: str, status: int) -> None:
    """Nor what is meant for one of them into the other."""
    words = [sys.executable, "-m", "rt_segmentation.cli", *command.split()]
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


@pytest.mark.parametrize("command", [["models", "list"], ["cache", "list"], ["benchmark", "engines"]])
def test_unknown_options_are_refused_with_the_usage_of_their_command(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--no-such"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith(f"usage: rt_seg {' '.join(command)} [-h]")
    assert said.endswith(f"rt_seg {' '.join(command)}: error: unrecognized arguments: --no-such\n")


@pytest.mark.parametrize("words", ["--seconds nan", "--seconds -1", "--rate 0", "--rate inf"])
def test_a_demo_of_no_time_or_rate_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *words.split()]) == 2
    assert f"rt_seg demo: {words} is not a number of " in capsys.readouterr().err


def test_what_a_demo_cannot_do_is_said_before_an_engine_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "file"
    taken.touch()
    assert main(["demo", "--out", str(taken)]) == 2
    assert "rt_seg demo: --out" in capsys.readouterr().err
    assert main(["demo", "--rate", "1e9"]) == 2
    assert "--rate 1e+09 is not within 0.01 to 1000 frames per second" in capsys.readouterr().err


def test_files_are_written_though_nobody_reads_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise BrokenPipeError

    street = ["--dataset", "street", "--option", "scenes=1", "--option", "frames_per_scene=1"]
    street += ["--option", "width=64", "--option", "height=64"]
    found = tmp_path / "statistics.json"
    monkeypatch.setattr(dataset, "print_table", gone)
    main(["dataset", "stats", *street, "--json", str(found)])
    assert json.loads(found.read_text())["frames"] == 1


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
        ("models show enet --classes 0", "'0' is not a whole number of 1 or more"),
        ("export --model enet --calibrate-frames 0", "'0' is not a whole number of 1 or more"),
        ("export --model enet --calibrate-frames 1.5", "'1.5' is not a whole number of 1 or more"),
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
