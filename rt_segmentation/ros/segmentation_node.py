"""The segmentation node: camera images in, label and colour masks out."""

from __future__ import annotations

from rt_segmentation.ros.signals import answer_signals

if __name__ == "__main__":
    answer_signals()

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from rt_segmentation.groups import Grouping, GroupsError, grouping
from rt_segmentation.inference.engines import EngineError
from rt_segmentation.inference.parity import ParityError
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelError, ModelManifest, find_model
from rt_segmentation.ros.bond import Bond
from rt_segmentation.ros.camera import Camera
from rt_segmentation.ros.declaring import declare, override, refuse_unknown
from rt_segmentation.ros.diagnostics import Limits, array_message, engine_problem, status_message
from rt_segmentation.ros.guarded import GuardedNode
from rt_segmentation.ros.image_input import ImageMessage
from rt_segmentation.ros.logging_bridge import log_through
from rt_segmentation.ros.process import Interrupted, Process, run_node
from rt_segmentation.ros.running_model import RunningModel
from rt_segmentation.ros.segmentation_parameters import (
    CAMERAS,
    PARAMETERS,
    PER_CAMERA,
    camera_parameters,
    of_another_camera,
    own_name,
)
from rt_segmentation.ros.services import answer_always, answer_questions
from rt_segmentation.ros.tables import NAMES
from rt_segmentation.ros.topics import DIAGNOSTICS, LABEL, publisher
from rt_segmentation.ros.trouble_log import TroubleLog
from rt_segmentation.ros.usage import answered
from rt_segmentation.ros.worker import HUNG, Worker
from rt_segmentation.text import one_line, printable

NODE_NAME = "segmentation_node"
ABOUT = "Segments a camera's images: class ids, colours and overlays of what comes on image."
WATCH_INTERVAL_S = 0.2
DIAGNOSTICS_INTERVAL_S = 1.0
STOP_TIMEOUT_S = 1.2
INTERRUPTED = "interrupted while the model was set up"


class SegmentationNode(GuardedNode, LifecycleNode):
    """Segments the images of a camera, or of several in turn.

    Configuring loads the model and makes the topics; activating starts the worker, and from then on the node
    subscribes to a camera whenever somebody listens to one of its outputs. It goes through both by itself,
    as soon as an executor spins it, unless the parameter `autostart` is false.

    Args:
        name: of the node; several in a process have different names or namespaces.
        process: that it lives in; by default one that ends with the node's context.
        options: rclpy's for a node, such as `context`, `namespace` and `parameter_overrides`.

    Attributes:
        finished: whether it was shut down.
        failed: whether it could not start by itself; the log says why.
        cameras: with what became of their images.

    Raises:
        ParameterError: a parameter is unknown or has a bad value.
    """

    def __init__(self, name: str = NODE_NAME, *, process: Process | None = None, **options: Any) -> None:
        super().__init__(name, **options)
        log_through(self.get_logger())
        cameras, general = override(self, CAMERAS) or [""], partial(override, self)
        table = [*PARAMETERS, *camera_parameters(cameras, general)]
        refuse_unknown(self, table, NODE_NAME, NAMES, partial(of_another_camera, cameras))
        declare(self, table, {p.name: [own_name(c, p.name) for c in cameras if c] for p in PER_CAMERA})
        self._process = Process(self.context) if process is None else process
        self.finished = self.failed = False
        self._starting = False
        self._failure = ""
        self._worker: Worker | None = None
        self._working = False
        # Those whose engines hang: their threads decide how the process ends.
        self._given_up: list[Worker] = []
        self._published = 0
        self._bond = Bond(self)
        self.cameras = tuple(Camera(self, name, partial(self._value_of_camera, name)) for name in cameras)
        self._model = RunningModel(
            self._value, self._set_back, self.cameras, self._process, self.get_logger()
        )
        self._reported_at = time.monotonic()
        self._troubles = TroubleLog(self.get_logger())
        self._diagnostics = publisher(self, DIAGNOSTICS)
        self.add_on_set_parameters_callback(self._follow_parameters)
        # Steady clocks: a paused simulation or bag must not silence diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(WATCH_INTERVAL_S, self._watch, clock=steady)
        self.create_timer(DIAGNOSTICS_INTERVAL_S, self._report, clock=steady)
        self.create_service(SetBool, "~/enable", self._enable)
        self.create_service(Trigger, "~/reload", self._reload)
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
        self._bond.end()
        self._receive_nothing()
        if self._worker is not None:
            self._worker.stop(STOP_TIMEOUT_S)
        return not self._is_busy()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, make the topics, and have the engine ready for the camera's images."""
        self._failure = ""
        try:
            manifest, labels, groups = self._process.run_interruptibly(
                partial(_find_model, self._value("model"), self._value("groups"))
            )
            # First, so that subscribers find them while the engine is built.
            for camera in self.cameras:
                camera.configure(labels if groups is None else groups.label_set)
            config = self._process.run_interruptibly(
                partial(self._model.first, manifest, labels), self._while_building
            )
        except EngineError as error:
            return self._refuse(engine_problem(error, self._value("engine"), self._value("precision")))
        except (ModelError, GroupsError, ParityError) as error:
            return self._refuse(str(error))
        except Interrupted:
            return self._refuse(INTERRUPTED)
        # An engine can fail in ways of its own, and rclpy swallows what a transition raises.
        except Exception as error:
            if self._closed:
                return self._refuse(INTERRUPTED)
            return self._refuse(f"the model could not be set up: {type(error).__name__}: {error}")
        self._model.start(config)
        self.get_logger().info(
            f"model {manifest.name} ({manifest.architecture}, {len(labels.classes)} classes) on engine"
            f" {config.engine.name}, {config.engine.precision}, {config.engine.device}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker; the next look at the graph subscribes to the camera."""
        self._model.open()
        self._working = True
        self._work()
        self._watch()
        for camera in self.cameras:
            label = self.resolve_topic_name(LABEL.of(camera.name).name)
            self.get_logger().info(f"active: {camera.topic} to {label} and its siblings")
        if self._value("bond"):
            self._bond.form()
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
            if self._closed or trigger() != TransitionCallbackReturn.SUCCESS:
                if not (self._closed or self._process.interrupted()):
                    self.failed = True
                    self.get_logger().fatal(printable(self._failure or "the node could not be activated"))
                break
        self._starting = False

    def _while_building(self) -> None:
        """As the executor would, which a transition that builds an engine keeps from it."""
        if self._closed:
            raise Interrupted
        answer_questions(self)
        for camera in self.cameras:
            camera.ask_size()
        due = time.monotonic() - self._reported_at >= DIAGNOSTICS_INTERVAL_S
        if due and self._model.building:
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
        why = self._model.follow({parameter.name: parameter.value for parameter in changed})
        return SetParametersResult(successful=not why, reason=one_line(why))

    def _set_back(self, values: dict[str, Any]) -> None:
        self.set_parameters_atomically([RosParameter(name, value=value) for name, value in values.items()])

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _value_of_camera(self, camera: str, name: str) -> Any:
        return self._value(own_name(camera, name))

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        result = self.set_parameters_atomically([RosParameter("enabled", value=request.data)])
        response.success, response.message = result.successful, result.reason
        self._watch()
        return response

    def _reload(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Load what the parameters say once more, as it is on the disk now."""
        response.success, response.message = self._model.reload()
        return response

    def _watch(self) -> None:
        """Follow the graph: listeners come and go, and cameras with their QoS; and take what was loaded."""
        if self._hangs():
            self._give_up()
        if self._model.update() and self._working:
            if self._worker is None:
                self._work()
            else:
                self._worker.resize(self._model.segmenters())
        labels = self._model.label_set
        for camera in self.cameras:
            camera.watch(self._wants(camera))
            if labels is not None:
                camera.tell(labels)

    def _work(self) -> None:
        """Have images segmented, or dropped while there is no engine."""
        if not self._model.hangs:
            self._worker = Worker(self._model.segmenters(), self._value)
        for camera in self.cameras:
            camera.hand_over = _drop if self._worker is None else self._worker.hand_over

    def _hangs(self) -> bool:
        """Whether the engine is at one frame for too long; to be asked some times per second."""
        if self._worker is None:
            return False
        limit_s = self._value("engine_timeout_s")
        return 0 < limit_s < self._worker.stalled_s(is_excused=bool(self._model.building))

    def _give_up(self) -> None:
        """Leave the engine to itself, and have another one built."""
        assert self._worker is not None
        engine, lost = self._worker.stalled, self._worker.give_up()
        self._given_up = [*(worker for worker in self._given_up if worker.is_busy), self._worker]
        self._worker = None
        published = sum(camera.statistics.snapshot().published for camera in self.cameras)
        self._model.rebuild(engine, self._value("engine_timeout_s"), lost, published > self._published)
        self._published = published
        if self._working:
            self._work()

    def _wants(self, camera: Camera) -> bool:
        """Whether anybody wants masks of the camera's images."""
        return self._working and self._value("enabled") and camera.listened()

    def _report(self) -> None:
        """Publish the diagnostics: one status, or with several cameras another one for each."""
        self._reported_at = time.monotonic()
        facts, trouble, hardware_id = self._model.state("active" if self._working else "inactive")
        if self._failure:
            trouble.append(self._failure)
        limits = Limits(
            *(
                self._value(f"diagnostics.{name}")
                for name in ("max_latency_ms", "min_output_hz", "max_drop_ratio", "stale_after_s")
            )
        )
        name, statuses = self.get_fully_qualified_name(), []
        alone = len(self.cameras) == 1
        if not alone:
            listened = any(self._wants(camera) for camera in self.cameras)
            self._troubles.update(trouble, listened)
            statuses.append(status_message(f"{name}: segmentation", hardware_id, None, facts, trouble))
        for camera in self.cameras:
            wanted = self._wants(camera)
            report = camera.report(limits, wanted)
            state = facts["state"]
            if state == "active" and not wanted:
                state += f", {'nobody listens' if self._value('enabled') else 'disabled'}"
            values = {**(facts if alone else {}), "state": state, **report.facts}
            sentences = [*(trouble if alone else []), *report.trouble]
            part = "segmentation" if alone else f"camera {camera.name}"
            statuses.append(status_message(f"{name}: {part}", hardware_id, report.now, values, sentences))
            if camera.outputs is not None:
                whose = name if alone else f"{name}/{camera.name}"
                of_health, unhealthy = camera.outputs.health.statuses(whose, self._value)
                statuses += of_health
                sentences = [*sentences, *unhealthy]
            camera.troubles.update(sentences, wanted)
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(array_message(header, *statuses))

    def _stop_working(self) -> None:
        """Wait for the frame at hand, which uses segmenter and outputs; but not if the process is to end."""
        self._working = False
        self._bond.end()
        self._receive_nothing()
        if self._worker is None:
            return
        if self._worker.stop(None, lambda: self._process.interrupted() or self._hangs()):
            self._worker = None
        elif not self._process.interrupted():
            self._give_up()
        else:
            # It stays, so that `close` knows of its threads.
            self.get_logger().warning("interrupted while a frame was at work: the node ends without its mask")

    def _is_busy(self) -> bool:
        workers = [*self._given_up, *([] if self._worker is None else [self._worker])]
        return any(worker.is_busy for worker in workers) or self._model.is_busy

    def _receive_nothing(self) -> None:
        """No more images, nor those that wait for an engine."""
        for camera in self.cameras:
            camera.stop()
        self._model.let_go()

    def _release(self) -> None:
        self._model.release()
        for camera in self.cameras:
            camera.release()


def _drop(camera: Camera, _: ImageMessage) -> None:
    camera.statistics.frame_dropped(HUNG)


def _find_model(name: str, groups: str) -> tuple[ModelManifest, LabelSet, Grouping | None]:
    manifest = find_model(name)
    labels = manifest.labels()
    return manifest, labels, grouping(groups, labels)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node; see `run_node` for the exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = answered(NODE_NAME, ABOUT, PARAMETERS, arguments)
    if status is not None:
        return status
    return run_node(NODE_NAME, lambda process: SegmentationNode(process=process), arguments)


if __name__ == "__main__":
    sys.exit(main())
