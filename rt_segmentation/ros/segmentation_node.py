"""The segmentation node: camera images in, label and colour masks out."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from rt_segmentation.groups import Grouping, GroupsError, grouping
from rt_segmentation.inference.engines import EngineError, build_engine, describe
from rt_segmentation.inference.parity import Gate, ParityError
from rt_segmentation.inference.segmenter import Current, Segmenter, SegmenterConfig
from rt_segmentation.inference.sizes import Sizes
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelError, ModelManifest, find_model
from rt_segmentation.ros.camera_size import RememberedSize, Size, size_by_info
from rt_segmentation.ros.diagnostics import Limits, array_message, engine_problem, problems, status_message
from rt_segmentation.ros.image_input import ImageInput, ImageMessage, InfoInput
from rt_segmentation.ros.logging_bridge import log_through
from rt_segmentation.ros.outputs import Outputs
from rt_segmentation.ros.parameters import declare, refuse_unknown
from rt_segmentation.ros.process import Interrupted, Process, run_node
from rt_segmentation.ros.segmentation_parameters import PARAMETERS, geometry
from rt_segmentation.ros.services import answer_always
from rt_segmentation.ros.tables import NAMES
from rt_segmentation.ros.topics import DIAGNOSTICS, publisher
from rt_segmentation.ros.trouble_log import TroubleLog
from rt_segmentation.ros.usage import answered
from rt_segmentation.ros.worker import Worker
from rt_segmentation.runtime.statistics import StreamStatistics
from rt_segmentation.text import printable

NODE_NAME = "segmentation_node"
ABOUT = "Segments a camera's images: class ids, colours and overlays of what comes on image."
WATCH_INTERVAL_S = 0.2
DIAGNOSTICS_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 1.2


class SegmentationNode(LifecycleNode):
    """Segments one camera's images.

    Configuring loads the model and makes the topics; activating starts the worker, and from then on the node
    subscribes to the camera whenever somebody listens to one of its outputs. It goes through both by itself,
    as soon as an executor spins it, unless the parameter `autostart` is false.

    Args:
        name: of the node; several in a process have different names or namespaces.
        process: that it lives in; by default one that ends with the node's context.
        options: rclpy's for a node, such as `context`, `namespace` and `parameter_overrides`.

    Attributes:
        finished: whether it was shut down.
        failed: whether it could not start by itself; the log says why.
        statistics: what became of the camera's images.

    Raises:
        ParameterError: a parameter is unknown or has a bad value.
    """

    def __init__(self, name: str = NODE_NAME, *, process: Process | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        log_through(self.get_logger())
        refuse_unknown(self, PARAMETERS, NODE_NAME, NAMES)
        declare(self, PARAMETERS)
        self._process = Process(self.context) if process is None else process
        self.finished = self.failed = False
        self._closed = False
        self._starting = False
        self._failure = ""
        self._current: Current | None = None
        self._outputs: Outputs | None = None
        self._sizes: list[Sizes] = []
        self._worker: Worker | None = None
        self.statistics = StreamStatistics()
        self._reported = self.statistics.snapshot()
        self._reported_at = time.monotonic()
        self._camera_size: Size | None = None
        self._remembered: RememberedSize | None = None
        self._input = ImageInput(self, self._receive, self.statistics.messages_lost)
        self._info_input = InfoInput(self, self._remember)
        self._troubles = TroubleLog(self.get_logger())
        self._diagnostics = publisher(self, DIAGNOSTICS)
        self.add_on_set_parameters_callback(self._follow_parameters)
        # Steady clocks: a paused simulation or bag must not silence diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_INTERVAL_S, self._watch, clock=steady)
        self.create_timer(DIAGNOSTICS_INTERVAL_S, self._report, clock=steady)
        answer_always(self)
        if self._value("autostart"):
            self._autostart = self.create_timer(0.0, self._start_by_itself, clock=steady)
        else:
            self.get_logger().info("waiting for a lifecycle manager, as autostart is false")

    def start(self) -> None:
        """Have the process watched as `watchdog_s` says; called where the process is this node's alone."""
        limit_s = self._value("watchdog_s")
        if limit_s > 0:
            self._process.watch_over(limit_s)

    def destroy_node(self) -> None:
        """Stop working, and leave the middleware."""
        self.close()
        super().destroy_node()

    def close(self) -> bool:
        """Stop working; returns whether the frame at hand could be finished in time."""
        if self._closed:
            return not self._is_busy()
        self._closed = True
        self._input.close()
        self._let_waiting_frames_go()
        if self._worker is not None:
            self._worker.stop(STOP_TIMEOUT_S)
        return not self._is_busy()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, make the topics, and have the engine ready for the camera's images."""
        try:
            manifest, labels, groups = self._process.run_interruptibly(self._find_model)
            # First, so that subscribers find them while the engine is built.
            self._outputs = Outputs(self, labels if groups is None else groups.label_set)
            self._remembered = RememberedSize(
                self.get_fully_qualified_name(), self.resolve_topic_name("image")
            )
            self._camera_size = self._remembered.size
            config = self._process.run_interruptibly(
                partial(self._make_config, manifest, labels, groups), self._while_building
            )
        except EngineError as error:
            return self._refuse(engine_problem(error, self._value("engine"), self._value("precision")))
        except (ModelError, GroupsError, ParityError) as error:
            return self._refuse(str(error))
        except Interrupted:
            return self._refuse("interrupted while the model was set up")
        # An engine can fail in ways of its own, and rclpy swallows what a transition raises.
        except Exception as error:
            return self._refuse(f"the model could not be set up: {type(error).__name__}: {error}")
        self._current = Current(config)
        self.get_logger().info(
            f"model {manifest.name} ({manifest.architecture}, {len(labels.classes)} classes) on engine"
            f" {config.engine.name}, {config.engine.precision}, {config.engine.device}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker; the next look at the graph subscribes to the camera."""
        assert self._current is not None and self._outputs is not None
        if self._current.config.sizes is not None:
            self._current.config.sizes.open()
        self._worker = Worker(
            [Segmenter(self._current) for _ in range(self._value("parallel_frames"))],
            self._outputs,
            self.statistics,
            self.get_logger(),
            self._value,
        )
        self._watch()
        image = self.resolve_topic_name("image")
        self.get_logger().info(f"active: {image} to {self.resolve_topic_name('~/label')} and its siblings")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and stop the worker."""
        self._stop_working()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take the topics away and let the model go."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End: the process exits with status 0."""
        self._stop_working()
        self._release()
        self.finished = True
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, whatever it was."""
        self._stop_working()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _start_by_itself(self) -> None:
        self._autostart.cancel()
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != TransitionCallbackReturn.SUCCESS:
                if not self._process.interrupted():
                    self.failed = True
                    self.get_logger().fatal(printable(self._failure or "the node could not be activated"))
                break
        self._starting = False

    def _find_model(self) -> tuple[ModelManifest, LabelSet, Grouping | None]:
        manifest = find_model(self._value("model"))
        labels = manifest.labels()
        return manifest, labels, grouping(self._value("groups"), labels)

    def _make_config(
        self, manifest: ModelManifest, labels: LabelSet, groups: Grouping | None
    ) -> SegmenterConfig:
        """As the parameters say, ready for frames: its engine is built, which may take minutes once."""
        frames = self._value("parity.frames")
        gate = Gate(
            self._value("parity.fp32"),
            self._value("parity.half"),
            self._value("parity.int8"),
            Path(frames).expanduser() if frames else None,
        )
        engine = build_engine(
            manifest, self._value("engine"), self._value("precision"), gate, self._value("parallel_frames")
        )
        # Those that are still busy are remembered, as threads at work decide how the process ends.
        self._sizes = [sizes for sizes in self._sizes if sizes.is_busy]
        self._sizes.append(Sizes(engine, self._process.long_work))
        config = SegmenterConfig(
            manifest,
            labels,
            engine,
            (self._value("input_width"), self._value("input_height")),
            sizes=self._sizes[-1],
            groups=groups,
            **geometry(self._value),
        )
        camera = self._camera_size
        if config.input_size[0]:
            config.prepare()
        elif camera is not None:
            try:
                config.prepare(camera)
            # The camera's next images may have another size: they will tell.
            except Exception as error:
                self.get_logger().warning(
                    f"no engine is ready for the camera's images of {camera[0]}x{camera[1]}: {error}"
                )
        return config

    def _while_building(self) -> None:
        """As the executor would, which a transition that builds an engine keeps from it."""
        self._info_input.update(self._camera_size is None)
        self._info_input.take()
        due = time.monotonic() - self._reported_at >= DIAGNOSTICS_INTERVAL_S
        if due and any(sizes.building for sizes in self._sizes):
            self._report()

    def _refuse(self, why: str) -> TransitionCallbackReturn:
        self._failure = why
        self._release()
        # At the start it is the last of what is said.
        if not self._starting:
            self.get_logger().error(why)
        return TransitionCallbackReturn.FAILURE

    def _follow_parameters(self, changed: list[RosParameter[Any]]) -> SetParametersResult:
        """Before they are set; their values are checked by then."""
        if self._current is not None:
            new = {parameter.name: parameter.value for parameter in changed}
            wanted = geometry(lambda name: new.get(name, self._value(name)))
            self._current.config = replace(self._current.config, **wanted)
        return SetParametersResult(successful=True)

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _receive(self, message: ImageMessage) -> None:
        if self._worker is not None and self._outputs is not None:
            self._outputs.health.arrived()
            self._worker.hand_over(message)

    def _remember(self, info: CameraInfo) -> None:
        if self._camera_size is None:
            self._camera_size = size_by_info(info)
        if self._outputs is not None:
            self._outputs.remember(info)

    def _watch(self) -> None:
        """Follow the graph: listeners come and go, and cameras with their QoS."""
        wanted = self._worker is not None and self._outputs is not None and self._outputs.listened()
        self._input.update(wanted, self._value("image_transport"))
        self._info_input.update(
            wanted and self._outputs is not None and self._outputs.listened("camera_info")
        )

    def _report(self) -> None:
        """Publish the diagnostics."""
        now, before = self.statistics.snapshot(), self._reported
        self._reported, self._reported_at = now, time.monotonic()
        facts = {"model": self._value("model"), "state": "unconfigured"}
        hardware_id = ""
        trouble: list[str] = []
        if self._current is not None:
            config = self._current.config
            engine = describe(config.engine)
            hardware_id = engine.device
            facts.update(
                model=config.manifest.name,
                state="inactive",
                engine=engine.name,
                precision=engine.precision,
            )
            trouble += engine.warnings
        listened = self._worker is not None and self._outputs is not None and self._outputs.listened()
        if self._worker is not None:
            if self._worker.camera_size is not None and self._remembered is not None:
                self._remembered.remember(self._worker.camera_size)
            facts["state"] = "active"
            if self._outputs is not None and listened:
                limits = Limits(
                    *(
                        self._value(f"diagnostics.{name}")
                        for name in ("max_latency_ms", "min_output_hz", "max_drop_ratio", "stale_after_s")
                    )
                )
                trouble += problems(now, before, self._input, limits)
                if not self._outputs.has_info and self._info_input.subscribed_s > limits.stale_after_s:
                    trouble.append(
                        f"~/camera_info is listened to, and nothing has come on {self._info_input.topic}:"
                        f" {self._info_input.why_silent()}"
                    )
                stamp_problem = self._outputs.stamp_problem
                if stamp_problem:
                    facts["latency"] = stamp_problem
                    if limits.max_latency_ms > 0 and now.published > before.published:
                        trouble.append(stamp_problem)
                if now.dropped.get("failed", 0) > before.dropped.get("failed", 0):
                    trouble.append(self._worker.failure)
            else:
                facts["state"] = "active, nobody listens"
        building = [words for sizes in self._sizes if (words := sizes.building)]
        if building:
            facts["state"] = building[-1]
            trouble = [*building, *trouble]
        name = self.get_fully_qualified_name()
        statuses = [status_message(f"{name}: segmentation", hardware_id, now, facts, trouble)]
        if self._outputs is not None:
            of_health, unhealthy = self._outputs.health.statuses(name, self._value)
            statuses += of_health
            trouble = [*trouble, *unhealthy]
        self._troubles.update(trouble, listened)
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(array_message(header, *statuses))

    def _stop_working(self) -> None:
        """Wait for the frame at hand, which uses segmenter and outputs; but not if the process is to end."""
        self._input.close()
        self._let_waiting_frames_go()
        if self._worker is None:
            return
        if self._worker.stop(None, self._process.interrupted):
            self._worker = None
        else:
            # It stays, so that `close` knows of its threads.
            self.get_logger().warning("interrupted while a frame was at work: the node ends without its mask")

    def _is_busy(self) -> bool:
        working = self._worker is not None and self._worker.is_busy
        return working or any(sizes.is_busy for sizes in self._sizes)

    def _let_waiting_frames_go(self) -> None:
        for sizes in self._sizes:
            sizes.close()

    def _release(self) -> None:
        self._info_input.close()
        if self._outputs is not None:
            self._outputs.close()
        self._outputs = self._current = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `run_node` for the exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = answered(NODE_NAME, ABOUT, PARAMETERS, arguments)
    if status is not None:
        return status
    return run_node(NODE_NAME, lambda process: SegmentationNode(process=process), arguments)


if __name__ == "__main__":
    sys.exit(main())
