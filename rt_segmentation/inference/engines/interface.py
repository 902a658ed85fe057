"""What an engine is, and how it fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from rt_segmentation.errors import RtSegmentationError
from rt_segmentation.inference.parity import Gate
from rt_segmentation.models import ModelManifest

Runner = Callable[[np.ndarray], "list[np.ndarray]"]
"""From uint8 (N, H, W, 3) RGB to labels, and confidence if asked for, in arrays that are the caller's."""

CalibrationFrames = Callable[[int, int], "tuple[Sequence[np.ndarray], str]"]
"""From a height and width [px] to frames, uint8 (height, width, 3) RGB, and their origin in words."""


class EngineError(RtSegmentationError, RuntimeError):
    """An engine that cannot be built or run here; the message says what is missing or wrong."""


class EngineUnavailable(EngineError):
    """An engine whose library is not installed, or that does not offer what is asked on this machine."""


class GraphUnavailable(EngineUnavailable):
    """An engine that is installed, without what the graph of a model is made with: mostly by mistake."""


class Shape(NamedTuple):
    """What an engine is compiled for: frames of a batch, their size [px], and whether with confidence."""

    batch: int
    height: int
    width: int
    confidence: bool


@dataclass(frozen=True)
class Description:
    """An engine in words, all of one moment.

    Attributes:
        name, precision, device, warnings: see `Engine`.
    """

    name: str
    precision: str
    device: str
    warnings: tuple[str, ...]


class Engine(Protocol):
    """Runs one model; built by an `EngineClass`.

    Several threads may use an engine; one that works on fewer frames concurrently than its class was asked
    for lets them wait for each other.

    Attributes:
        name: as in `ENGINES`.
        precision: really in use: 'fp32', 'fp16', 'bf16' or 'int8'.
        device: in words, for diagnostics.
        warnings: a sentence for each engine that was to be used and is not; diagnostics warn of them.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def warnings(self) -> tuple[str, ...]: ...  # noqa: D102

    def prepare(self, batch: int, height: int, width: int, confidence: bool = False) -> None:
        """Do now what the first call of `infer` with such frames would do: seconds, from a cold cache.

        Raises:
            EngineError: this engine cannot run the model at this size, or gives other labels than torch.
        """
        ...

    def infer(self, images: np.ndarray, confidence: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Segment a batch.

        Args:
            images: uint8 (N, H, W, 3) RGB, C-contiguous.
            confidence: whether to compute it.

        Returns:
            Class ids uint8 (N, H, W), and the top class's probability x 255, uint8 (N, H, W), or None.

        Raises:
            EngineError: as `prepare`, at the first frames of a size, or the engine failed.
        """
        ...

    def release(self, height: int, width: int) -> None:
        """Let go what was made for frames of a size; the next ones have it made again."""
        ...


class StandsForEngine(ABC):
    """What an engine that others work for says of itself: what the one in use says, all of one moment."""

    @property
    @abstractmethod
    def current(self) -> Description:
        """The engine in use."""

    @property
    @abstractmethod
    def ran(self) -> tuple[tuple[str, str], ...]:
        """Names and precisions of all engines that frames were run on, the first first."""

    @property
    def name(self) -> str:
        """See `Engine`."""
        return self.current.name

    @property
    def precision(self) -> str:
        """See `Engine`."""
        return self.current.precision

    @property
    def device(self) -> str:
        """See `Engine`."""
        return self.current.device

    @property
    def warnings(self) -> tuple[str, ...]:
        """See `Engine`."""
        return self.current.warnings


class EngineClass(Protocol):
    """What `ENGINES` names."""

    def __call__(self, manifest: ModelManifest, precision: str, gate: Gate, parallel: int) -> Engine:
        """Build an engine; see `build_engine` for the arguments and what is raised."""
        ...

    def precisions(self) -> tuple[str, ...]:
        """What this machine offers, the first choice first.

        Raises:
            EngineUnavailable: a library is missing.
        """
        ...

    def calibrate(
        self, manifest: ModelManifest, frames: CalibrationFrames, batch: int, height: int, width: int
    ) -> str:
        """Find int8's ranges on frames; an engine in int8 that is built afterwards uses them.

        Args:
            manifest: the model.
            frames: some dozens that show what the model will see, at the size that the engine asks for.
            batch: frames of a batch that will be run.
            height: of the frames that will be run [px].
            width: of the frames that will be run [px].

        Returns:
            What was found and where it is, in words.

        Raises:
            EngineUnavailable: this engine has no int8, or something is missing for it.
            EngineError: the ranges cannot be found.
            OSError: they cannot be written.
        """
        ...


def what_ran(engine: Engine) -> tuple[str, str]:
    """The engine and the precision that gave the answers so far, for a report.

    Frames of another shape may have needed another engine: then all are there, as 'openvino, torch' and
    'int8, fp32'.
    """
    ran = engine.ran if isinstance(engine, StandsForEngine) else ()
    names, precisions = zip(*(ran or ((engine.name, engine.precision),)))
    return ", ".join(names), ", ".join(precisions)


def in_words(names: str, precisions: str) -> str:
    """What `what_ran` gives, for people: 'openvino int8 and torch fp32'."""
    return " and ".join(map(" ".join, zip(names.split(", "), precisions.split(", "))))


def describe(engine: Engine) -> Description:
    """What an engine says of itself, all of one moment where it may change meanwhile."""
    current = getattr(engine, "current", None)
    if isinstance(current, Description):
        return current
    return Description(engine.name, engine.precision, engine.device, engine.warnings)
