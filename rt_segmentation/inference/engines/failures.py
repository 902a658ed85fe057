"""What exceptions of many libraries say, in one line."""

from __future__ import annotations

# So begin the lines of OpenVINO that say where something was raised; what was raised comes last.
_PLACES = "Exception from "


def reason(error: Exception) -> str:
    """The line that says what went wrong, or the exception's type where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if lines[0].startswith(_PLACES) else lines[0]
