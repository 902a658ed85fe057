"""The node's life: its start, its states, what it answers while it works, and its end."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no ROS 2 here")
pytest.importorskip("torch", reason="torch is not installed: no network to run")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import Image
from support.node_under_test import ENGINE, NODE, TORCH, Feeder, NodeUnderTest, ros_args

from rt_segmentation.models import ModelManifest

WIDTH, HEIGHT = 320, 240


def image() -> Image:
    pixels = np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=3 * WIDTH, data=pixels.tobytes())


def with_folder(folder: Path) -> str:
    """The Python path with a folder in front."""
    return os.pathsep.join((str(folder), os.environ["PYTHONPATH"]))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"modle": "enet"}, "unknown parameter 'modle'; did you mean 'model'?"),
        ({"overlay_opacity": 2.0}, "parameter 'overlay_opacity' is 2.0, it must be from 0.0 to 1.0"),
        (
            {"image_transport": "compress"},
            "parameter 'image_transport' is 'compress', it must be one of raw, compressed; "
            "did you mean 'compressed'?",
        ),
        (
            {"input_height": 16},
            "parameter 'input_height' is 16: it must be 0 for automatic, or 32 or more",
        ),
        ({"model": "unet"}, "unknown model 'unet'; there are"),
        ({"model": "/no/such.yaml"}, "model manifest /no/such.yaml does not exist"),
        ({"precision": "fp16"}, f"engine '{ENGINE['engine']}' has no precision 'fp16' on "),
    ],
)
def test_bad_start_is_one_sentence_and_exit_code_2(
    spawn: Any, small_model: ModelManifest, parameters: dict[str, Any], sentence: str
) -> None:
    import torch

    if parameters.get("precision") == "fp16" and torch.cuda.is_available():
        pytest.skip("CUDA has fp16")
    process = spawn(NODE, *ros_args("/bad", **{"model": small_model.path, **ENGINE, **parameters}))
    assert process.finish() == 2
    lines = process.output.splitlines()
    assert len(lines) == 1, process.output
    assert "[FATAL]" in lines[0]
    assert sentence in lines[0]


def test_damaged_weights_stop_the_start(spawn: Any, small_model: ModelManifest, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_bytes(small_model.path.read_bytes())
    (tmp_path / "small.safetensors").write_bytes(small_model.weights_path.read_bytes()[:-1000])
    process = spawn(NODE, *ros_args("/bad", model=tmp_path / "small.yaml"))
    assert process.finish() == 2
    (line,) = process.output.splitlines()
    assert "the file is damaged or another one" in line
    assert str(tmp_path / "small.safetensors") in line


def test_parameters_answer_at_runtime(stage: Any, small_model: ModelManifest) -> None:
    node = NodeUnderTest(stage.spawn, stage.observer, "/parameters", small_model)
    node.process.wait_for("active:")
    refused = node.set_parameter("watchdog_s", 60.0)
    assert (refused.successful, refused.reason) == (
        False,
        "parameter 'watchdog_s' is read at the start only; start the node again with watchdog_s:=60.0",
    )
    refused = node.set_parameter("overlay_opacity", 1.5)
    assert (refused.successful, refused.reason) == (
        False,
        "parameter 'overlay_opacity' is 1.5, it must be from 0.0 to 1.0",
    )
    assert node.set_parameter("overlay_opacity", 1.0).successful


def test_node_answers_and_reports_while_it_infers_and_finishes_before_it_is_deactivated(
    stage: Any, listen: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    environment = {"RELEASE": str(release)}
    node = NodeUnderTest(
        stage.spawn, stage.observer, "/busy", small_model, environment, module="support.held_engine_node"
    )
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)
    feeder.publish(image())
    node.spin_until(lambda: node.count("frames received") == 1)
    # A frame that waits for its engine would be let go.
    node.process.wait_for("held")
    assert node.set_parameter("jpeg_quality", 80).successful
    assert node.state() == "active"
    # Received, told so in the diagnostics, two services answered: and the first frame is still at work.
    assert node.count("masks published") == 0
    assert not labels
    threading.Timer(0.5, release.touch).start()
    assert node.change_state(Transition.TRANSITION_DEACTIVATE)
    node.spin_until(lambda: len(labels) == 1)
    # Nothing is taken from under the frame's feet.
    release.unlink()
    assert node.change_state(Transition.TRANSITION_ACTIVATE)
    feeder.publish(image())
    node.spin_until(lambda: node.count("frames received") == 2)
    assert node.count("masks published") == 1
    threading.Timer(0.5, release.touch).start()
    assert node.change_state(Transition.TRANSITION_DEACTIVATE)
    assert node.change_state(Transition.TRANSITION_CLEANUP)
    assert node.fresh_status().message == "unconfigured"
    assert (node.count("masks published"), node.count("frames dropped")) == (2, 0)

    release.unlink()
    assert node.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.change_state(Transition.TRANSITION_ACTIVATE)
    feeder.publish(image())
    node.spin_until(lambda: node.count("frames received") == 3)
    # The end does not wait for this inference, and nothing breaks.
    node.process.send(signal.SIGINT)
    assert node.process.finish() == 0
    assert "Traceback" not in node.process.output
    assert "[ERROR]" not in node.process.output
    feeder.close()


# Both signals have one handler: they take turns.
@pytest.mark.parametrize(
    ("transition", "number"), [("DEACTIVATE", signal.SIGINT), ("ACTIVE_SHUTDOWN", signal.SIGTERM)]
)
def test_a_signal_ends_it_while_a_transition_waits_for_an_engine_that_hangs(
    spawn: Any,
    observer: Any,
    small_model: ModelManifest,
    tmp_path: Path,
    number: signal.Signals,
    transition: str,
) -> None:
    environment = {"RELEASE": str(tmp_path / "never")}
    node = NodeUnderTest(
        spawn, observer, "/hung", small_model, environment, module="support.held_engine_node"
    )
    observer.subscribe(Image, node.topic("label"), 5)
    feeder = Feeder(node)
    feeder.publish(image())
    node.spin_until(lambda: node.count("frames received") == 1)
    node.process.wait_for("held")
    client = observer.node.create_client(ChangeState, f"{node.name}/change_state")
    node.spin_until(client.service_is_ready)
    request = ChangeState.Request()
    request.transition.id = getattr(Transition, f"TRANSITION_{transition}")
    answer = client.call_async(request)
    # It waits for the frame.
    node.spin_for(2.0)
    assert node.process.is_running() and not answer.done()
    node.process.send(number)
    # Launch sends SIGTERM after five seconds and SIGKILL after ten.
    assert node.process.finish(5.0) == 0
    assert "interrupted while a frame was at work: the node ends without its mask" in node.process.output
    assert "Traceback" not in node.process.output


@pytest.mark.parametrize(
    ("autostart", "number"),
    [(True, signal.SIGTERM), (False, signal.SIGINT)],
    ids=["autostart-SIGTERM", "managed-SIGINT"],
)
def test_a_signal_ends_it_while_an_engine_is_being_built(
    spawn: Any, observer: Any, small_model: ModelManifest, number: signal.Signals, autostart: bool
) -> None:
    """As TensorRT is for minutes, at the first start on a Jetson."""
    parameters = {"engine": "building", "autostart": autostart, "input_width": 64, "input_height": 48}
    module = "support.building_engine_node"
    node = NodeUnderTest(spawn, observer, "/building", small_model, None, module, **parameters)
    if not autostart:
        client = observer.node.create_client(ChangeState, f"{node.name}/change_state")
        node.spin_until(client.service_is_ready)
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        client.call_async(request)
    node.process.wait_for("the build begins")
    node.process.send(number)
    # Launch sends SIGTERM after five seconds and SIGKILL after ten.
    assert node.process.finish(5.0) == 0
    assert "Traceback" not in node.process.output and "[FATAL]" not in node.process.output


def test_lifecycle_manager_takes_the_node_through_all_states(
    stage: Any, listen: Any, small_model: ModelManifest
) -> None:
    node = NodeUnderTest(stage.spawn, stage.observer, "/managed", small_model, autostart=False)
    labels = listen(Image, node.topic("label"))
    feeder = Feeder(node)

    node.process.wait_for("waiting for a lifecycle manager")
    assert node.state() == "unconfigured"
    assert node.fresh_status().message == "unconfigured"
    assert node.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.state() == "inactive"
    node.fresh_status()
    assert node.values()["engine"] == ENGINE["engine"]
    assert not node.listens()

    for _ in range(2):
        assert node.change_state(Transition.TRANSITION_ACTIVATE)
        assert node.state() == "active"
        feeder.segment(image(), labels)
        assert node.change_state(Transition.TRANSITION_DEACTIVATE)
        assert node.state() == "inactive"
        node.spin_until(lambda: not node.listens())
    assert node.change_state(Transition.TRANSITION_CLEANUP)
    assert node.state() == "unconfigured"
    node.spin_until(lambda: not stage.observer.node.count_publishers(node.topic("label")))
    assert not node.change_state(Transition.TRANSITION_ACTIVATE)

    assert node.change_state(Transition.TRANSITION_CONFIGURE)
    assert node.change_state(Transition.TRANSITION_ACTIVATE)
    feeder.segment(image(), labels)
    assert node.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert node.process.finish() == 0
    assert "Traceback" not in node.process.output
    feeder.close()


def test_configuring_again_after_the_model_is_repaired(
    stage: Any, small_model: ModelManifest, tmp_path: Path
) -> None:
    manifest = replace(small_model, path=tmp_path / "small.yaml")
    manifest.path.write_bytes(small_model.path.read_bytes())
    node = NodeUnderTest(stage.spawn, stage.observer, "/repaired", manifest, autostart=False)
    node.process.wait_for("waiting for a lifecycle manager")
    assert not node.change_state(Transition.TRANSITION_CONFIGURE)
    node.process.wait_for("small.safetensors of model 'small' cannot be read: No such file or directory")
    assert node.state() == "unconfigured"
    status = node.fresh_status()
    assert status.level == DiagnosticStatus.WARN and "small.safetensors of model 'small'" in status.message
    manifest.weights_path.write_bytes(small_model.weights_path.read_bytes())
    assert node.change_state(Transition.TRANSITION_CONFIGURE)
    assert "small.safetensors" not in node.fresh_status().message
    assert node.change_state(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) is False
    assert node.change_state(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert node.process.finish() == 0


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGINT, signal.SIGTERM]],
    ids=lambda signals: "+".join(number.name for number in signals),
)
def test_signals_end_it_cleanly(
    spawn: Any, observer: Any, small_model: ModelManifest, signals: list[signal.Signals], record_property: Any
) -> None:
    node = NodeUnderTest(spawn, observer, "/ends", small_model)
    labels = observer.subscribe(Image, node.topic("label"), 5)
    feeder = Feeder(node)
    feeder.segment(image(), labels)
    started = time.monotonic()
    for number in signals:
        node.process.send(number)
    assert node.process.finish() == 0
    record_property("seconds", round(time.monotonic() - started, 3))
    assert "Traceback" not in node.process.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["participant", "torch"])
def test_signal_during_the_start_ends_it_cleanly(
    spawn: Any, small_model: ModelManifest, tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    # A torch that says when its import has begun, and takes its time.
    (tmp_path / "torch.py").write_text("import time\nprint('torch begins', flush=True)\ntime.sleep(60)\n")
    # Python runs this before the node's own modules: it says when main() has put up its handlers.
    watch = "import threading, signal, time\n"
    watch += "def look():\n"
    watch += "    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL: time.sleep(0.001)\n"
    watch += "    print('main begins', flush=True)\n"
    watch += "threading.Thread(target=look, daemon=True).start()\n"
    (tmp_path / "sitecustomize.py").write_text(watch)
    arguments = ros_args("/early", model=small_model.path, **TORCH)
    process = spawn(NODE, *arguments, PYTHONPATH=with_folder(tmp_path))
    process.wait_for("main begins" if moment == "participant" else "torch begins")
    process.send(number)
    # Before that import would have been over.
    assert process.finish(40.0) == 0
    assert "Traceback" not in process.output
