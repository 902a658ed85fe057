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


def run_launch(arguments: list[str], *until: str, launch_file: str = LAUNCH_FILE) -> str:
    """Launch, wait for texts in the output, interrupt as Ctrl-C does; returns the output."""
    ros2 = shutil.which("ros2")
    assert ros2 is not None
    output, waiting = "", bool(until)
    with subprocess.Popen(
        [ros2, "launch", launch_file, *arguments],
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
        "cloud",
        "depth",
        "points",
        "ground",
        "cameras",
        "namespace",
        "params_file",
        "use_sim_time",
        "rviz",
        "respawn",
    ):
        assert f"'{name}':" in shown
    choices = next(p.choices for p in PARAMETERS if p.name == "precision")
    assert str(["", *choices]) in shown
    assert str(["none", "depth", "points"]) in shown


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


def test_several_cameras() -> None:
    arguments = ["cameras:=[front, rear]", "model:=enet"]
    texts = [f"active: /{name}/image to /segmentation_node/{name}/label" for name in ("front", "rear")]
    output = run_launch(arguments, *texts)
    assert all(text in output for text in texts)
    assert "Traceback" not in output


def test_each_of_several_cameras_has_the_image_topic_below_its_name() -> None:
    arguments = ["cameras:=[front,rear]", "image:=color/image_raw", "camera:=street", "model:=enet"]
    topics = [f"/{name}/color/image_raw" for name in ("front", "rear")]
    texts = [f"active: {topics[0]} to", f"active: {topics[1]} to", *(f"Hz on {topic}" for topic in topics)]
    output = run_launch(arguments, *texts)
    assert all(text in output for text in texts)
    assert "Traceback" not in output
    # A name for one camera alone may be absolute, and one topic for several is refused.
    sentence = "active: /camera/image_raw to /segmentation_node/front/label"
    assert sentence in run_launch(["cameras:=[front]", "image:=/camera/image_raw", "model:=enet"], sentence)
    refused = run_launch(["cameras:=[front,rear]", "image:=/camera/image_raw"])
    assert "image:=/camera/image_raw is one topic for 2 cameras" in refused


def test_each_of_several_cameras_has_its_cloud_and_its_stand_in() -> None:
    arguments = ["cameras:=[front,rear]", "camera:=street", "cloud:=depth", "namespace:=robot", "model:=enet"]
    texts = [
        text
        for name in ("front", "rear")
        for text in (
            f"Hz on /robot/{name}/image",
            f"publishing /robot/{name}/semantic_cloud_node/points from "
            f"/robot/segmentation_node/{name}/label and /robot/{name}/depth",
        )
    ]
    output = run_launch(arguments, *texts)
    assert all(text in output for text in texts)


def test_cameras_of_a_params_file_have_their_clouds_too(tmp_path: Path) -> None:
    params = tmp_path / "two.yaml"
    params.write_text(
        "/**/segmentation_node:\n  ros__parameters: {model: enet, cameras: [front, rear]}\n"
        "/elsewhere/segmentation_node:\n  ros__parameters: {cameras: [left]}\n"
    )
    texts = [
        f"publishing /{name}/semantic_cloud_node/points from /segmentation_node/{name}/label"
        for name in ("front", "rear")
    ]
    output = run_launch([f"params_file:={params}", "cloud:=depth"], *texts)
    assert all(text in output for text in texts)


def test_one_depth_topic_does_not_serve_several_cameras() -> None:
    output = run_launch(["cameras:=[front,rear]", "cloud:=depth", "depth:=/camera/depth"])
    sentence = "depth:=/camera/depth is one topic for 2 cameras; give a name without the first slash"
    assert sentence in output
    assert "process started" not in output


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert f"params_file {missing} does not exist" in run_launch([f"params_file:={missing}"])
    assert "fp31" in run_launch(["precision:=fp31"])


def test_the_launched_camera_takes_the_params_file(tmp_path: Path) -> None:
    params = tmp_path / "mine.yaml"
    params.write_text(
        "/**/camera_node:\n  ros__parameters: {rate_hz: 3.0, width: 128, height: 72, source: nowhere}\n"
    )
    sentence = "publishing street 0 of 128x72 px at 3 Hz on /robot/image"
    arguments = [f"params_file:={params}", "camera:=street", "model:=enet", "namespace:=robot"]
    output = run_launch(arguments, sentence)
    assert sentence in output
    # Each node passes over the other's parameters of the package's own file.
    assert "ignored" not in output


def test_a_params_file_that_reaches_no_node_is_refused(tmp_path: Path) -> None:
    params = tmp_path / "mine.yaml"
    params.write_text("segmentation_node:\n  ros__parameters:\n    model: from_the_file\n")
    output = run_launch([f"params_file:={params}", "namespace:=robot"])
    assert f"params_file {params} would not be used: its section is for '/segmentation_node'" in output
    assert "this node is /robot/segmentation_node; write '/**/segmentation_node:' over it" in output
    assert "process started" not in output
    sentence = "unknown model 'from_the_file'"
    for namespace in ("", "robot"):
        above = "/**/" if namespace else ""
        params.write_text(f"{above}segmentation_node:\n  ros__parameters:\n    model: from_the_file\n")
        namespaces = [f"namespace:={namespace}"] if namespace else []
        assert sentence in run_launch([f"params_file:={params}", *namespaces], sentence)


def test_a_misspelt_argument_is_refused_with_the_nearest() -> None:
    for given, answer in (
        ("modle:=enet", "unknown argument 'modle'; did you mean 'model'?"),
        ("parameter_file:=x", "unknown argument 'parameter_file'; did you mean 'params_file'?"),
        ("zzz:=1", "unknown argument 'zzz'; there are model, engine"),
    ):
        output = run_launch([given])
        assert answer in output
        assert "process started" not in output


def test_names_that_ros_does_not_take_are_said_with_the_argument(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("model: enet\n")
    broken = tmp_path / "broken.yaml"
    broken.write_text("/**:\n\tros__parameters: {model: enet}\n")
    for given, answer in (
        (
            "cameras:=[front rear]",
            "cameras is '[front rear]': 'front rear' is no name: it must begin",
        ),
        ("cameras:=[front,2rear]", "'2rear' is no name"),
        ("image:=/camera/image_raw/", "image is '/camera/image_raw/', which is no topic's name"),
        ("depth:=/1cam/depth", "depth is '/1cam/depth', which is no topic's name"),
        (f"params_file:={params}", f"params_file {params} has no ros__parameters of any node"),
        (f"params_file:={broken}", f"params_file {broken} is not YAML: "),
        (f"params_file:={tmp_path}", f"params_file {tmp_path} is no file"),
    ):
        output = run_launch([given])
        assert answer in output
        assert "process started" not in output


def test_a_launch_file_that_includes_it_keeps_its_own_arguments(tmp_path: Path) -> None:
    above = tmp_path / "robot.launch.py"
    above.write_text(
        f"""
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

def generate_launch_description():
    source = PythonLaunchDescriptionSource({LAUNCH_FILE!r})
    included = IncludeLaunchDescription(source, launch_arguments={{"model": "nothing"}}.items())
    argument = DeclareLaunchArgument("models", default_value="1")
    return LaunchDescription([argument, GroupAction([PushRosNamespace("r2"), included])])
"""
    )
    sentence = "unknown model 'nothing'"
    output = run_launch(["models:=3"], sentence, launch_file=str(above))
    assert sentence in output


def test_a_cloud_is_made_of_a_masks_depth() -> None:
    sentence = "semantic_cloud_node/points from /here/segmentation_node/label and /camera/depth while"
    arguments = ["cloud:=depth", "depth:=/camera/depth", "namespace:=here", "engine:=torch"]
    assert sentence in run_launch(arguments, sentence)


def test_the_ground_of_the_masks_is_a_node_more() -> None:
    sentence = "ground_grid_node/scan from /here/segmentation_node/label while"
    assert sentence in run_launch(["ground:=true", "namespace:=here", "engine:=torch"], sentence)
