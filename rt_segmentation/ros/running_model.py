"""The model that a node runs, as its parameters say, and the one that is to take its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from rclpy.impl.rcutils_logger import RcutilsLogger

from rt_segmentation.files import user_path
from rt_segmentation.groups import GroupsError, grouping
from rt_segmentation.imaging.errors import ImageError
from rt_segmentation.inference.engines import Engine, build_engine, describe
from rt_segmentation.inference.engines.fallback import RETRY_S
from rt_segmentation.inference.engines.planned import Plan, PlannedEngine, plan_engine
from rt_segmentation.inference.parity import Gate
from rt_segmentation.inference.segmenter import Current, Segmenter, SegmenterConfig
from rt_segmentation.inference.sizes import Sizes
from rt_segmentation.labels import LabelSet
from rt_segmentation.models import ModelError, ModelManifest, find_model
from rt_segmentation.ros.camera import Camera
from rt_segmentation.ros.process import Process
from rt_segmentation.ros.segmentation_parameters import geometry
from rt_segmentation.ros.switching import Choice, Leaving, Loaded, Loader
from rt_segmentation.text import counted

SIZE_WAIT_S = 1.0
"""For so long a start waits for an image of cameras that publish and whose images have no known size."""

MAX_HANGS = 3
"""So many engines in a row may hang, none with a single mask, before no other is built."""


class RunningModel:
    """Owned by the executor's thread, which swaps one configuration for the next between two frames.

    Args:
        parameter: gives a parameter's current value by name.
        set_back: sets parameters by name.
        cameras: whose images the engine is made ready for.
        process: that it lives in.
        logger: told of each change.
    """

    def __init__(
        self,
        parameter: Callable[[str], Any],
        set_back: Callable[[dict[str, Any]], None],
        cameras: Sequence[Camera],
        process: Process,
        logger: RcutilsLogger,
    ) -> None:
        self._parameter, self._set_back = parameter, set_back
        self._cameras, self._process, self._logger = cameras, process, logger
        self._current: Current | None = None
        self._choice: Choice | None = None
        self._refused = ""
        # Why what runs does not answer; empty where it does.
        self._hung = ""
        # Told once in the diagnostics, however soon it is over.
        self._untold = ""
        self._hangs = self._rebuilt = 0
        self._retry_at = 0.0
        # Whether ~/reload was called, and no engine that was built since has come or been refused.
        self._reload_due = False
        self._loader = Loader(self._load)
        self._leaving = Leaving()
        self._sizes: list[Sizes] = []
        self._lanes = 1

    @property
    def is_busy(self) -> bool:
        """Whether a thread builds an engine."""
        return self._loader.is_busy or any(sizes.is_busy for sizes in self._sizes)

    @property
    def building(self) -> list[str]:
        """Which engines frames wait for, in words."""
        return [words for sizes in self._sizes if (words := sizes.building)]

    @property
    def label_set(self) -> LabelSet | None:
        """What the ids of the next frame's mask mean; None where nothing runs."""
        return None if self._current is None else self._current.config.output_label_set

    @property
    def hangs(self) -> bool:
        """Whether no frame may be given to what runs, until `update` has something else."""
        return bool(self._hung)

    def first(self, manifest: ModelManifest, labels: LabelSet) -> SegmenterConfig:
        """Ready for frames if their size is known: the engine is built, which may take minutes once.

        Raises:
            EngineError, ModelError: it cannot run here.
        """
        config = self._config(Choice.of(self._parameter), manifest, labels)
        self._keep_sizes(config)
        if config.input_size[0]:
            config.prepare()
            return config
        deadline = time.monotonic() + SIZE_WAIT_S
        while any(camera.may_tell_size for camera in self._cameras) and time.monotonic() < deadline:
            time.sleep(0.02)
        for camera in self._cameras:
            size = camera.known_size
            if size is None:
                continue
            try:
                config.of(camera.name).prepare(size)
            # The camera's next images may have another size: they will tell.
            except Exception as error:
                self._logger.warning(
                    f"no engine is ready for the images of {camera} of {size[0]}x{size[1]}: {error}"
                )
        return config

    def start(self, config: SegmenterConfig) -> None:
        """Run what `first` made, whose parameters have not changed since."""
        self._current, self._choice = Current(config), Choice.of(self._parameter)

    def segmenters(self) -> list[Segmenter]:
        """As many as frames are to be worked at concurrently."""
        assert self._current is not None
        self._lanes = self._plan().parallel
        return [Segmenter(self._current) for _ in range(self._lanes)]

    def follow(self, changed: dict[str, Any]) -> str:
        """Before parameters are set as one set; returns why they cannot be, in a sentence.

        What loading takes goes on beside the frames; `update` makes the change.
        """
        if self._current is None:
            return ""

        def value(name: str) -> Any:
            return changed[name] if name in changed else self._parameter(name)

        choice = Choice.of(value)
        if choice != Choice.of(self._parameter):
            if choice == self._choice and not self._reload_due:
                self._loader.forget()
                self._refused = ""
            elif why := self._ask(choice):
                return why
        self._current.config = self._placed(self._current.config, value)
        return ""

    def reload(self) -> tuple[bool, str]:
        """Load what the parameters say once more, as it is on the disk now; whether it began, and what."""
        if self._current is None:
            return False, "there is nothing to load again: the node is not configured"
        choice, was_due = Choice.of(self._parameter), self._reload_due
        self._reload_due = True
        if why := self._ask(choice):
            self._reload_due = was_due
            return False, why
        return True, f"loading {choice} beside what runs; /diagnostics say when it is done, or why not"

    def update(self) -> bool:
        """Swap in what was loaded, or set the parameters back; whether `segmenters` are other ones now."""
        if self._current is None or self._choice is None:
            self._loader.forget()
            return False
        outcome = self._loader.take()
        if outcome is None:
            if not self._hung:
                # An engine that was built for the first frames may have decided by now.
                return self._plan().parallel != self._lanes
            if self._hangs <= MAX_HANGS and time.monotonic() >= self._retry_at:
                self._build_again()
            return False
        if self._hung and outcome.config is not None and outcome.config.engine is self._current.config.engine:
            # It hung just after its groups were changed.
            self._loader.ask(outcome.choice)
            return False
        self._reload_due = False
        if outcome.config is None:
            running = self._choice
            # Before it is said, as what is set to what runs ends what was said before.
            self._set_back(asdict(running))
            if self._hung:
                # What hung is built again immediately where it was another choice that failed.
                self._retry_at = time.monotonic() + RETRY_S if outcome.choice == running else 0.0
                self._refused = f"{outcome.choice} cannot be built: {outcome.why}"
                self._logger.error(self._refused)
            else:
                # After a reload both have one name.
                same = outcome.choice == running
                what = "what is on the disk now" if same else str(outcome.choice)
                runs = f"{running}, as it was loaded before," if same else str(running)
                self._refused = f"{what} is refused, and {runs} runs on: {outcome.why}"
            return False
        if self._hung:
            self._hung, self._refused = "", ""
            self._rebuilt += 1
        elif outcome.config.engine is not self._current.config.engine:
            # One that hangs never leaves.
            self._leaving.add(self._current.config.engine)
        # The geometry may have changed meanwhile.
        self._current.config = self._placed(outcome.config, self._parameter)
        self._choice = outcome.choice
        self._keep_sizes(outcome.config)
        self._logger.info(f"changed to {outcome.choice}")
        return True

    def rebuild(self, engine: Engine | None, after_s: float, lost: int, had_masks: bool) -> None:
        """An engine hangs: have it built once more where it is what runs, and run nothing until then.

        Args:
            engine: that hangs; None where it has just answered.
            after_s: how long it was given [s].
            lost: frames that it had.
            had_masks: whether it gave any since it was built.
        """
        hung = (
            f"gave no answer for {after_s:g} s (parameter `engine_timeout_s`), {counted(lost, 'frame')} lost"
        )
        if engine is not None and self._current is not None and engine is not self._current.config.engine:
            # What was loaded beside it waits for frames.
            self._untold = f"the engine before {hung}; the one that took its place goes on"
            self._logger.error(self._untold)
            return
        self._hangs = 1 if had_masks else self._hangs + 1
        self._hung = f"the engine {hung}"
        if self._hangs > MAX_HANGS:
            self._hung += (
                f"; {self._hangs} have hung in a row, and no other is built until `model` or `engine` is"
                " changed, or ~/reload called"
            )
        else:
            self._hung += "; another one is built"
            self._build_again()
        self._untold = self._hung
        self._logger.error(self._hung)

    def state(self, doing: str) -> tuple[dict[str, str], list[str], str]:
        """What runs, in values, what is wrong with it, and the device; frees what has been replaced.

        Args:
            doing: the node's state once there is a model.
        """
        self._leaving.update()
        facts = {"model": self._parameter("model"), "state": "unconfigured"}
        hardware_id = ""
        trouble: list[str] = []
        if self._current is not None:
            config = self._current.config
            engine = describe(config.engine)
            hardware_id = engine.device
            facts.update(
                model=config.manifest.name, state=doing, engine=engine.name, precision=engine.precision
            )
            facts["concurrent frames"] = str(self._plan())
            trouble += engine.warnings
        loading = self._loader.loading
        if loading is not None:
            facts["loading"] = str(loading)
        if self._rebuilt:
            facts["engines rebuilt after they hung"] = str(self._rebuilt)
        if self._hung:
            facts["state"] = "without an engine"
        if hung := self._hung or self._untold:
            trouble.append(hung)
        self._untold = ""
        if self._refused:
            trouble.append(self._refused)
        if building := self.building:
            facts["state"] = building[-1]
            trouble = [*building, *trouble]
        return facts, trouble, hardware_id

    def open(self) -> None:
        """Frames may wait for an engine."""
        if self._current is not None and self._current.config.sizes is not None:
            self._current.config.sizes.open()

    def let_go(self) -> None:
        """Frames that wait for an engine are not seen."""
        for sizes in self._sizes:
            sizes.close()

    def release(self) -> None:
        """Run nothing any more."""
        self._loader.forget()
        self._current = self._choice = None
        self._refused = self._hung = ""
        self._reload_due = False

    def _plan(self) -> Plan:
        assert self._current is not None and self._choice is not None
        engine = self._current.config.engine
        if isinstance(engine, PlannedEngine):
            return engine.plan
        return Plan(self._choice.parallel_frames, 1, "as parallel_frames says")

    def _ask(self, choice: Choice) -> str:
        """Have what is chosen made ready for `update`; returns why it cannot be, in a sentence."""
        current, running = self._current, self._choice
        assert current is not None and running is not None
        config, ready = current.config, None
        try:
            if choice.differs_in_groups_alone(running) and not (self._reload_due or self._hung):
                ready = replace(config, groups=grouping(choice.groups, config.label_set))
            else:
                grouping(choice.groups, find_model(choice.model).labels())
        except (GroupsError, ModelError) as error:
            return str(error)
        self._refused = ""
        if ready is None:
            self._loader.ask(choice)
        else:
            # A load that nobody wants any more may be at work for minutes.
            self._loader.put(Loaded(choice, ready, ""))
        return ""

    def _build_again(self) -> None:
        """Unless another one was asked for, which will do as well."""
        self._retry_at = 0.0
        if self._choice is not None and not self._loader.is_asked:
            self._loader.ask(self._choice)

    def _config(self, choice: Choice, manifest: ModelManifest, labels: LabelSet) -> SegmenterConfig:
        """As the parameters say; its engine is not made ready for any size."""
        frames = self._parameter("parity.frames")
        gate = Gate(
            self._parameter("parity.fp32"),
            self._parameter("parity.half"),
            self._parameter("parity.int8"),
            user_path(frames) if frames else None,
        )
        what = manifest, choice.engine, choice.precision, gate
        engine: Engine
        if choice.parallel_frames:
            engine = build_engine(*what, choice.parallel_frames)
        else:
            engine = plan_engine(*what, len(self._cameras))
        config = SegmenterConfig(
            manifest,
            labels,
            engine,
            (choice.input_width, choice.input_height),
            sizes=Sizes(engine, self._process.long_work),
            groups=grouping(choice.groups, labels),
        )
        return self._placed(config, self._parameter)

    def _placed(self, config: SegmenterConfig, value: Callable[[str], Any]) -> SegmenterConfig:
        """With the geometry of each camera as parameters are."""
        config = replace(config, sources={}, **geometry(value))
        own = {camera.name: replace(config, **geometry(value, camera.name)) for camera in self._cameras}
        return replace(config, sources=own)

    def _load(self, choice: Choice) -> SegmenterConfig:
        """What is to run next, ready for the cameras' images as they are; on the loader's thread."""
        with self._process.long_work():
            manifest = find_model(choice.model)
            config = self._config(choice, manifest, manifest.labels())
            outputs = [camera.outputs for camera in self._cameras if camera.outputs is not None]
            confidence = any(output.listened("confidence") for output in outputs)
            known = {camera.name: size for camera in self._cameras if (size := camera.known_size) is not None}
            is_ready = False
            for name, size in known.items():
                try:
                    config.of(name).prepare(size, confidence)
                    is_ready = True
                # This camera's own trouble, whatever runs: its frames are dropped, with the reason.
                except ImageError as error:
                    self._logger.warning(f"{choice} is not made ready for {name or 'the camera'}: {error}")
            if not is_ready:
                # Without a camera the gate judges it all the same.
                replace(config.of(""), roi=None).prepare((manifest.width, manifest.height), confidence)
            return config

    def _keep_sizes(self, config: SegmenterConfig) -> None:
        # Those that are still busy are kept, as threads at work decide how the process ends.
        busy = [sizes for sizes in self._sizes if sizes.is_busy and sizes is not config.sizes]
        self._sizes = [*busy, *([] if config.sizes is None else [config.sizes])]
