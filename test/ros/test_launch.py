"""The launch file with the real `ros2 launch`, where it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from rt_segmentation.resources import share_dir
from rt_segmentation.ros.segmentation_parameters import PARAMETERS

pytest.importorskip("ros2launch.command.launch", reason="`ros2 launch` comes with a ROS 2 installation only")
PATIENCE_S = 180.0
LAUNCH_FILE = str(share_dir() / "launch" / "seg.launch.py")


def run_launch(arguments: list[str], *until: str) -> str:
    """Launch, wait for texts in the output, interrupt as Ctrl-C does; returns the output."""
    ros2 = shutil.which("ros2")
    assert ros2 is not None
    output, waiting = "", bool(until)
    with subprocess.Popen(
        [ros2, "launch", LAUNCH_FILE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # The parent's may be ignored, and launch keeps what it inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(PATIENCE_S, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        for line in process.stdout:
            output += line
            if waiting and all(text in output for text in until) and process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                waiting = False
        watchdog.cancel()
    return output


@pytest.fixture(autouse=True)
def environment(ros_environment: None) -> None:
    """Each test has a ROS domain of its own."""


def test_arguments_are_listed_with_choices() -> None:
    shown = run_launch(["--show-args"])
    for name in (
        "model",
        "engine",
        "precision",
        "image",
        "namespace",
        "params_file",
        "use_sim_time",
        "rviz",
        "respawn",
    ):
        assert f"'{name}':" in shown
    choices = next(p.choices for p in PARAMETERS if p.name == "precision")
    assert str(["", *choices]) in shown


def test_a_params_file_is_used_and_an_argument_beats_it(tmp_path: Path) -> None:
    params = tmp_path / "mine.yaml"
    params.write_text("/**:\n  ros__parameters:\n    model: from_the_file\n")
    sentence = "unknown model 'from_the_file'"
    assert sentence in run_launch([f"params_file:={params}"], sentence)
    sentence = "unknown model 'from_the_argument'"
    output = run_launch([f"params_file:={params}", "model:=from_the_argument"], sentence)
    assert sentence in output
    assert "Traceback" not in output


def test_camera_and_node_run_and_end_cleanly() -> None:
    arguments = ["camera:=street", "model:=enet", "image:=/cam/image_raw"]
    output = run_launch(arguments, "active: /cam/image_raw", "publishing street")
    assert "active: /cam/image_raw to /segmentation_node/label" in output
    assert output.count("process has finished cleanly") == 2
    assert "Traceback" not in output


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert f"params_file {missing} does not exist" in run_launch([f"params_file:={missing}"])
    assert "fp31" in run_launch(["precision:=fp31"])
