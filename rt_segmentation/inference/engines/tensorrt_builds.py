"""What builds of TensorRT's engines have in common, whoever makes the network; without torch."""

from __future__ import annotations

import logging
import time
from typing import Any

from rt_segmentation.inference.engines.interface import EngineError

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 5.0

# What TensorRT may take for its working memory: by default all there is, which on a Jetson is everybody's.
WORKSPACE_BYTES = 1 << 30


def set_up(config: Any, tensorrt: Any, precision: str, what: str) -> None:
    """Set a builder's limits, and have it log how far it is.

    Args:
        config: an IBuilderConfig.
        tensorrt: the library.
        precision: 'fp32', 'fp16' or 'int8'.
        what: what is built, for the log.
    """
    monitor = progress_monitor(tensorrt, what)
    if monitor is not None:
        config.progress_monitor = monitor
    # There since TensorRT 8.4; torch2trt sets a limit below 10 alone.
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if precision == "fp32":
        # On by default: 10 of 23 bits.
        config.clear_flag(tensorrt.BuilderFlag.TF32)


def load_engine(serialized: bytes, tensorrt: Any, dla: int | None = None) -> tuple[Any, Any, Any]:
    """Make what was built executable.

    Args:
        serialized: the engine.
        tensorrt: the library.
        dla: the DLA core that it was built for; None for the GPU.

    Returns:
        An IRuntime, an ICudaEngine and an IExecutionContext; an engine needs its runtime as long as it lives.

    Raises:
        EngineError: TensorRT refuses the engine, or has no memory to run it in.
    """
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
    if dla is not None:
        runtime.DLA_core = dla
    engine = runtime.deserialize_cuda_engine(serialized)
    if engine is None:
        raise EngineError(
            "TensorRT cannot load the engine from the cache; `rt_seg cache clear --keep-tuned` removes it"
        )
    context = engine.create_execution_context()
    if context is None:
        raise EngineError(
            "TensorRT has no memory to run the engine in, its log says how much; free some, or take a"
            " smaller size or batch"
        )
    return runtime, engine, context


def progress_monitor(tensorrt: Any, what: str) -> Any:
    """Logs how far a build is; None where TensorRT (below 10) cannot tell."""
    if not hasattr(tensorrt, "IProgressMonitor"):
        return None

    class Monitor(tensorrt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._logged = time.monotonic()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() - self._logged >= PROGRESS_INTERVAL_S:
                self._logged = time.monotonic()
                # Phases of one name may overlap, and one may have ended: an exception here ends the build.
                steps = self._steps.get(phase_name)
                of = "" if steps is None else f" of {steps}"
                logger.info("%s: %s, step %d%s", what, phase_name, step + 1, of)
            # Whether to go on.
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()
