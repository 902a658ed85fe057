"""Another model or engine while the node runs: loaded beside it, and the last one asked for wins."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.inference.engines import Engine, EngineError
from rt_segmentation.inference.segmenter import SegmenterConfig
from rt_segmentation.inference.sizes import give_memory_back
from rt_segmentation.ros.diagnostics import engine_problem


@dataclass(frozen=True)
class Choice:
    """The node's parameters that decide what runs: a change of any of them loads it anew."""

    model: str
    engine: str
    precision: str
    input_width: int
    input_height: int
    parallel_frames: int

    @staticmethod
    def of(parameter: Callable[[str], Any]) -> Choice:
        """As parameters are.

        Args:
            parameter: gives a parameter's value by name.
        """
        return Choice(**{field.name: parameter(field.name) for field in fields(Choice)})

    def __str__(self) -> str:
        """As a person would set it."""
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))


class Loaded(NamedTuple):
    """What became of a choice: what frames can be segmented by, or why there is nothing, in a sentence."""

    choice: Choice
    config: SegmenterConfig | None
    why: str


class Loader:
    """Loads on a thread of its own, one choice at a time.

    Args:
        load: makes a choice ready for frames; takes seconds to minutes.
    """

    def __init__(self, load: Callable[[Choice], SegmenterConfig]) -> None:
        self._load = load
        self._changing = threading.Lock()
        # A list of one, as two requests for the same choice are not the same request.
        self._wanted: list[Choice] = []
        self._outcome: Loaded | None = None
        self._thread: threading.Thread | None = None

    @property
    def loading(self) -> Choice | None:
        """What is being loaded, or waits for its turn."""
        with self._changing:
            return self._wanted[0] if self._wanted and self._outcome is None else None

    @property
    def is_busy(self) -> bool:
        """Whether it loads still, even if nobody wants that any more."""
        return self._thread is not None

    def ask(self, choice: Choice) -> None:
        """Load a choice; whatever was asked for before will not come."""
        with self._changing:
            self._wanted, self._outcome = [choice], None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="loading", daemon=True)
                self._thread.start()

    def forget(self) -> None:
        """What was asked for is not wanted any more."""
        with self._changing:
            self._wanted, self._outcome = [], None

    def take(self) -> Loaded | None:
        """What became of the last choice asked for, once; None while there is nothing to say."""
        with self._changing:
            outcome = self._outcome
            if outcome is not None:
                self._wanted, self._outcome = [], None
            return outcome

    def _run(self) -> None:
        while True:
            with self._changing:
                request = self._wanted
                if not request or self._outcome is not None:
                    self._thread = None
                    return
            outcome = self._attempt(request[0])
            with self._changing:
                if self._wanted is request:
                    self._outcome = outcome
            # Not kept while the next one is being loaded.
            del outcome

    def _attempt(self, choice: Choice) -> Loaded:
        try:
            return Loaded(choice, self._load(choice), "")
        except EngineError as error:
            why = engine_problem(error, choice.engine, choice.precision)
        except RtSegmentationError as error:
            why = str(error)
        # An engine can fail in ways of its own, and the one that runs goes on.
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
        return Loaded(choice, None, why)


class Leaving:
    """Engines that were replaced: their memory goes back to the system when the last frame has left them."""

    def __init__(self) -> None:
        self._engines: list[weakref.ref[Engine]] = []

    def add(self, engine: Engine) -> None:
        """An engine gets no more frames."""
        self._engines.append(weakref.ref(engine))

    def update(self) -> None:
        """Give back what can be; cheap where nothing leaves."""
        if self._engines:
            give_memory_back()
            self._engines = [engine for engine in self._engines if engine() is not None]
