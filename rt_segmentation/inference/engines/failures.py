"""Whatever goes wrong while an engine gets ready is an EngineError, so that the next one has its turn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rt_segmentation.inference.engines import EngineError


@contextlib.contextmanager
def preparing(engine: str, precision: str, height: int, width: int) -> Iterator[None]:
    """Around all that an engine does to be ready for frames of a size.

    Disks, locks of other users, exporters and images to compare with have exceptions of their own.

    Raises:
        EngineError: what was raised inside, with the engine, the size [px] and the cause.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(
            f"engine '{engine}' in {precision} cannot be made ready for {width}x{height}: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """What an exception says first, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
