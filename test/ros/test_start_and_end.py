"""A node's process from its first line to its end: signals at any moment, and what it leaves behind."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from sensor_msgs.msg import Image
from support.node_under_test import CAMERA, ENGINE, NODE, RELIABLE, ros_args
from support.segments import Segments

from rt_segmentation.models import ModelManifest

REPOSITORY = Path(__file__).resolve().parents[2]
# Says when a moment of the start has come, and goes on slowly, so that it still is when the signal comes.
WATCH = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            print("the moment has come", flush=True)
            import time
            time.sleep(0.3)

sys.meta_path.insert(0, Watch())
"""
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def profiled(folder: Path, **environment: str) -> dict[str, str]:
    """The launch file's profile of Fast DDS, with 16 MB of shared memory a process; a folder's modules."""
    profile = str(REPOSITORY / "config" / "fastdds.xml")
    path = os.pathsep.join((str(folder), os.environ["PYTHONPATH"]))
    names = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    return {**dict.fromkeys(names, profile), "PYTHONPATH": path, **environment}


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("node", "module"),
    [
        (NODE, "rclpy"),
        (NODE, "numpy"),
        (NODE, "rcl_interfaces.msg"),
        (NODE, "rt_segmentation.ros.process"),
        (CAMERA, "cv2"),
    ],
)
def test_a_signal_while_modules_are_imported(
    spawn: Any, tmp_path: Path, node: str, module: str, number: signal.Signals
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH.format(module=module))
    process = spawn(node, **profiled(tmp_path))
    process.wait_for("the moment has come")
    process.send(number)
    assert process.finish() == 0
    assert process.output == "the moment has come\n"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("program", ["segmentation_node", "camera_node"])
def test_installed_programs_answer_signals_first(
    spawn: Any, tmp_path: Path, program: str, number: signal.Signals
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH.format(module="rclpy"))
    (tmp_path / "program.py").write_text(f"from rt_segmentation.ros.start import {program}\n{program}()\n")
    process = spawn("program", **profiled(tmp_path))
    process.wait_for("the moment has come")
    process.send(number)
    assert process.finish() == 0
    assert process.output == "the moment has come\n"


def test_a_library_of_another_numpy_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('numpy.core.multiarray failed to import')\n")
    program = "import sys\nfrom rt_segmentation.ros.start import camera_node\nsys.exit(camera_node())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("was built for NumPy 1, and this is NumPy 2: pip install 'numpy<2'\n")
    assert "Traceback" not in done.stderr


# Both signals have one handler: they take turns.
@pytest.mark.parametrize(
    ("module", "parameters", "sign", "number"),
    [
        # In a build that never ends, in native code.
        (
            "support.building_engine_node",
            {"engine": "building", "precision": "fp32", "input_width": 64, "input_height": 48},
            "the build begins",
            signal.SIGINT,
        ),
        # While libraries are loaded on the thread that builds.
        (NODE, {"engine": "torch"}, "the moment has come", signal.SIGTERM),
        (NODE, {"autostart": False}, "waiting for a lifecycle manager", signal.SIGINT),
        (CAMERA, {}, "publishing", signal.SIGTERM),
    ],
    ids=["build", "load", "idle", "camera"],
)
def test_nothing_stays_in_shared_memory(
    spawn: Any,
    small_model: ModelManifest,
    tmp_path: Path,
    module: str,
    parameters: dict[str, Any],
    sign: str,
    number: signal.Signals,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH.format(module="torch"))
    model = {} if module == CAMERA else {"model": small_model.path}
    process = spawn(module, *ros_args("/ends", **model, **parameters), **profiled(tmp_path))
    segments = Segments(process)
    process.wait_for(sign)
    segments.look()
    assert segments.seen
    process.send(number)
    while process.is_running():
        segments.look()
        time.sleep(0.002)
    assert process.finish() == 0
    assert segments.left == []
    assert "Traceback" not in process.output and "[FATAL]" not in process.output


SLOW_FOLDER = """
import os, time

scandir = os.scandir

def slow(folder="."):
    if os.fspath(folder) == os.environ["SLOW_FOLDER"]:
        print("the folder is slow", flush=True)
        time.sleep(120)
    return scandir(folder)

os.scandir = slow
"""


def test_a_signal_while_the_camera_opens_its_source(spawn: Any, tmp_path: Path) -> None:
    """As a folder on another computer is."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_FOLDER)
    folder = str(tmp_path)
    process = spawn(CAMERA, *ros_args("/slow", source=folder), SLOW_FOLDER=folder, **profiled(tmp_path))
    segments = Segments(process)
    process.wait_for("the folder is slow")
    segments.look()
    process.send(signal.SIGINT)
    assert process.finish() == 0
    assert "Traceback" not in process.output and "[FATAL]" not in process.output
    assert segments.seen and segments.left == []


@pytest.mark.parametrize("parameters", [{"modle": "enet"}, {"model": "/no/such.yaml"}])
def test_nothing_stays_after_a_refused_start(spawn: Any, tmp_path: Path, parameters: dict[str, str]) -> None:
    process = spawn(NODE, *ros_args("/refused", **parameters), **profiled(tmp_path))
    segments = Segments(process)
    while process.is_running():
        segments.look()
        time.sleep(0.002)
    assert process.finish() == 2
    assert segments.seen and segments.left == []


# It has its handlers when it says so: on a busy machine the first lines of Python take as long as they like.
PROGRAM = """
import rt_segmentation.ros.start as start
from rt_segmentation.ros.signals import answer_signals
answer_signals()
print('begun', flush=True)
start.segmentation_node()
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_moments_from_the_start_to_the_first_frame(
    spawn: Any, small_model: ModelManifest, tmp_path: Path, number: signal.Signals
) -> None:
    """Without a look at what the process is doing: the moments are spread over its start."""
    (tmp_path / "program.py").write_text(PROGRAM)
    delays = (0.05, 0.2, 0.5, 0.9, 1.4, 2.5)
    for delay in delays:
        process = spawn("program", *ros_args("/any", model=small_model.path), **profiled(tmp_path))
        segments = Segments(process)
        process.wait_for("begun")
        due = time.monotonic() + delay
        while time.monotonic() < due:
            segments.look()
            time.sleep(0.002)
        process.send(number)
        while process.is_running():
            segments.look()
            time.sleep(0.002)
        assert process.finish() == 0, (delay, process.output)
        assert "Traceback" not in process.output and "[FATAL]" not in process.output
        assert segments.left == [], delay


@pytest.mark.parametrize("count", [1, pytest.param(100, marks=pytest.mark.long)])
def test_signals_at_random_moments_from_the_start_to_the_end(
    spawn: Any, observer: Any, small_model: ModelManifest, tmp_path: Path, count: int
) -> None:
    """While modules are imported, the engine is built, images are segmented, and while it ends already."""
    (tmp_path / "program.py").write_text(PROGRAM)
    random = Random(count)
    image = Image(width=160, height=120, encoding="mono8", step=160, data=bytes(160 * 120))
    publisher = observer.node.create_publisher(Image, "/any/image", RELIABLE)
    labels = observer.subscribe(Image, "/any/segmentation_node/label", RELIABLE)
    whole_s, ends_s, masks = 0.0, [], 0
    for number in range(count + 1):
        labels.clear()
        process = spawn("program", *ros_args("/any", model=small_model.path, **ENGINE), **profiled(tmp_path))
        segments = Segments(process)
        process.wait_for("begun")
        # The first one tells how long it takes to the first masks.
        began, due = time.monotonic(), random.uniform(0.0, 1.2 * whole_s) if number else math.inf
        while time.monotonic() - began < due and len(labels) < 3:
            segments.look()
            image.header.stamp = observer.node.get_clock().now().to_msg()
            publisher.publish(image)
            observer.executor.spin_once(timeout_sec=0.002)
        whole_s = whole_s or time.monotonic() - began
        masks += bool(labels)
        first = time.monotonic()
        process.send(random.choice(SIGNALS))
        again = first + random.uniform(0.0, 1.0)
        while process.is_running():
            segments.look()
            if time.monotonic() > again:
                again = math.inf
                with contextlib.suppress(ProcessLookupError):
                    process.send(random.choice(SIGNALS))
            time.sleep(0.002)
        ends_s.append(time.monotonic() - first)
        assert process.finish() == 0, (number, process.output)
        assert "Traceback" not in process.output and "[FATAL]" not in process.output, process.output
        assert segments.left == [], number
    ends_s.sort()
    print(
        f"{count + 1} signals, {masks} after the first mask: exit 0 each, nothing left in shared memory;"
        f" seconds to the end: median {ends_s[len(ends_s) // 2]:.2f}, longest {ends_s[-1]:.2f}"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--ros-args", "--frobnicate"), "the command line is not understood: unknown ROS arguments"),
        (("--ros-args", "-p", "model"), "the command line is not understood: Couldn't parse parameter"),
        (
            ("--ros-args", "--params-file", "/no/such.yaml"),
            "the command line is not understood: Couldn't parse params file: '--params-file /no/such.yaml'",
        ),
        (("--ros-args", "-r", "__node:=1bad"), "the command line is not understood"),
    ],
)
def test_a_command_line_that_is_not_understood(
    spawn: Any, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    process = spawn(NODE, *arguments, **profiled(tmp_path))
    assert process.finish() == 2
    line = process.output.splitlines()[-1]
    assert "[FATAL]" in line and sentence in line
    assert "Traceback" not in process.output


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"ROS_DOMAIN_ID": "abc"}, "ROS 2 cannot be started: ROS_DOMAIN_ID is not an integral number"),
        ({"ROS_DOMAIN_ID": "9999"}, "ROS_DOMAIN_ID is 9999, it must be from 0 to 232"),
    ],
)
def test_an_environment_in_which_ros_does_not_start_is_told_as_what_it_is(
    spawn: Any, tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    process = spawn(NODE, **profiled(tmp_path, **environment))
    assert process.finish() == 2
    line = process.output.splitlines()[-1]
    assert "[FATAL]" in line and sentence in line and "command line" not in line
    assert "Traceback" not in process.output


@pytest.mark.parametrize("place", ["ROS_LOG_DIR", "HOME", "no HOME", "no temporary folder"])
def test_no_folder_for_logs(spawn: Any, tmp_path: Path, place: str) -> None:
    """/proc takes no folders, from root neither."""
    environment = {"ROS_LOG_DIR": "/proc/none", "TMPDIR": str(tmp_path)}
    if place in ("HOME", "no HOME"):
        environment |= {"ROS_LOG_DIR": "", "HOME": "/proc/none" if place == "HOME" else ""}
    if place == "no temporary folder":
        (tmp_path / "sitecustomize.py").write_text("import tempfile\ntempfile.tempdir = '/proc/none'\n")
    process = spawn(NODE, *ros_args("/logless", autostart=False), **profiled(tmp_path, **environment))
    process.wait_for("waiting for a lifecycle manager")
    process.send(signal.SIGINT)
    assert process.finish() == 0
    (warning,) = [line for line in process.output.splitlines() if "[segmentation_node]: ROS log" in line]
    assert "cannot be written" in warning if place != "no HOME" else "there is no HOME" in warning
    folders = list(tmp_path.glob("segmentation_node-log-*"))
    if place == "no temporary folder":
        assert "there is no log file" in warning and not folders
    else:
        (folder,) = folders
        assert f"logs go to {folder}" in warning
        assert "waiting for a lifecycle manager" in "".join(path.read_text() for path in folder.glob("*.log"))
