"""Another model or engine while the node runs: loaded beside it, and the last one asked for wins."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.inference.engines import Engine, EngineError
from rt_segmentation.inference.segmenter import SegmenterConfig
from rt_segmentation.ros.diagnostics import engine_problem
from rt_segmentation.runtime.heap import give_memory_back

OVERDUE_S = 120.0
"""A load that takes longer does not hold up what was asked for after it: a library may hang in it."""

MAX_LOADS = 3
"""So many concurrently: each holds the memory of an engine."""

LOOKS = 10
"""So often the memory of engines that were replaced is looked for: one that hangs never leaves."""


@dataclass(frozen=True)
class Choice:
    """The node's parameters that decide what runs: a change of any of them but `groups` loads it anew."""

    model: str
    engine: str
    precision: str
    input_width: int
    input_height: int
    parallel_frames: int
    groups: str = ""

    @staticmethod
    def of(parameter: Callable[[str], Any]) -> Choice:
        """As parameters are.

        Args:
            parameter: gives a parameter's value by name.
        """
        return Choice(**{field.name: parameter(field.name) for field in fields(Choice)})

    def differs_in_groups_alone(self, other: Choice) -> bool:
        """Whether the other one's engine will do."""
        return self != other and self == replace(other, groups=self.groups)

    def __str__(self) -> str:
        """As a person would set it."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"{name} {value}" for name, value in values if value != "")


class Loaded(NamedTuple):
    """What became of a choice: what frames can be segmented by, or why there is nothing, in a sentence."""

    choice: Choice
    config: SegmenterConfig | None
    why: str


@dataclass(eq=False)
class _Turn:
    """What a thread is loading, and since when [s]."""

    request: list[Choice] = field(default_factory=list)
    since: float = 0.0


class Loader:
    """Loads on a thread of its own, one choice at a time.

    Where a load takes longer than `OVERDUE_S`, what was asked for since is loaded beside it.

    Args:
        load: makes a choice ready for frames; takes seconds to minutes.
        clock: monotonic seconds.
    """

    def __init__(
        self, load: Callable[[Choice], SegmenterConfig], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._load, self._clock = load, clock
        self._changing = threading.Lock()
        # A list of one, as two requests for the same choice are not the same request.
        self._wanted: list[Choice] = []
        self._outcome: Loaded | None = None
        # Of all threads at work; the last one takes what is wanted next.
        self._turns: list[_Turn] = []

    @property
    def loading(self) -> Choice | None:
        """What is being loaded, or waits for its turn."""
        with self._changing:
            return self._wanted[0] if self._wanted and self._outcome is None else None

    @property
    def is_asked(self) -> bool:
        """Whether something is asked for that has not been taken yet."""
        with self._changing:
            return bool(self._wanted)

    @property
    def is_busy(self) -> bool:
        """Whether it loads still, even if nobody wants that any more."""
        return bool(self._turns)

    def ask(self, choice: Choice) -> None:
        """Load a choice; whatever was asked for before will not come."""
        with self._changing:
            self._wanted, self._outcome = [choice], None
            self._begin()

    def put(self, outcome: Loaded) -> None:
        """Hand out what needs no load; whatever was asked for before will not come."""
        with self._changing:
            self._wanted, self._outcome = [outcome.choice], outcome

    def forget(self) -> None:
        """What was asked for is not wanted any more."""
        with self._changing:
            self._wanted, self._outcome = [], None

    def take(self) -> Loaded | None:
        """What became of the last choice asked for, once; None while there is nothing to say.

        To be asked some times per second.
        """
        with self._changing:
            outcome = self._outcome
            if self._wanted and outcome is None:
                self._begin()
            if outcome is not None:
                self._wanted, self._outcome = [], None
            return outcome

    def _begin(self) -> None:
        """Have a thread load what is wanted, if none does or will do in time."""
        if self._turns:
            last = self._turns[-1]
            is_overdue = last.request is not self._wanted and self._clock() - last.since > OVERDUE_S
            if not is_overdue or len(self._turns) == MAX_LOADS:
                return
        turn = _Turn(self._wanted, self._clock())
        self._turns.append(turn)
        threading.Thread(target=self._run, args=(turn,), name="loading", daemon=True).start()

    def _run(self, turn: _Turn) -> None:
        while True:
            with self._changing:
                request = self._wanted
                if not request or self._outcome is not None or self._turns[-1] is not turn:
                    self._turns.remove(turn)
                    return
                turn.request, turn.since = request, self._clock()
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
        self._looks = 0

    def add(self, engine: Engine) -> None:
        """An engine gets no more frames."""
        self._engines.append(weakref.ref(engine))
        self._looks = LOOKS

    def update(self) -> None:
        """Give back what can be; cheap where nothing leaves, and where an engine never does."""
        has_left = any(engine() is None for engine in self._engines)
        if has_left or (self._engines and self._looks):
            self._looks = max(0, self._looks - 1)
            give_memory_back()
            self._engines = [engine for engine in self._engines if engine() is not None]
