"""ROS 2 started in this process: a folder for its logs that can be written, and its errors as sentences."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from rt_segmentation.errors import RtSegmentationError

RCLError: type[Exception] = rclpy_implementation.RCLError
"""What rclpy raises where the middleware refuses something: a RuntimeError."""

InvalidHandle: type[Exception] = rclpy_implementation.InvalidHandle
"""What rclpy raises where a part of a node is used that was destroyed."""

HIGHEST_DOMAIN = 232
NO_LOG_FILE = "--disable-external-lib-logs"


class StartError(RtSegmentationError, ValueError):
    """A node, or ROS 2 for it, that cannot start; the message is one sentence that says why."""


def start_ros(
    name: str,
    argv: Sequence[str] | None = None,
    context: Context | None = None,
) -> None:
    """Start ROS 2 with logs in a folder that can be written; it answers no signals.

    Args:
        name: the logger's, for a warning.
        argv: command line with the program's name first; the process's own by default.
        context: that is started; rclpy's own by default.

    Raises:
        StartError: it cannot be started; the message says why.
    """
    domain = os.environ.get("ROS_DOMAIN_ID", "")
    if domain.isdecimal() and int(domain) > HIGHEST_DOMAIN:
        # Fast DDS would end the process itself.
        raise StartError(f"ROS_DOMAIN_ID is {domain}, it must be from 0 to {HIGHEST_DOMAIN}")
    wanted, problem = log_folder()
    arguments, where = list(sys.argv if argv is None else argv), ""
    if problem:
        try:
            os.environ["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix=f"{name}-log-")
            where = f"logs go to {os.environ['ROS_LOG_DIR']}"
        except OSError:
            arguments += ["--ros-args", NO_LOG_FILE]
            where = "there is no log file"
    try:
        rclpy.init(args=arguments, context=context, signal_handler_options=SignalHandlerOptions.NO)
    except rclpy_implementation.UnknownROSArgsError as error:
        raise StartError(f"the command line is not understood: unknown ROS arguments {error}") from error
    except RuntimeError as error:
        reason = plain(error)
        if reason.startswith("Couldn't parse"):
            raise StartError(f"the command line is not understood: {reason}") from error
        raise StartError(f"ROS 2 cannot be started: {reason}") from error
    if problem:
        get_logger(name).warning(f"ROS log folder {wanted} cannot be written ({problem}): {where}")


def log_folder() -> tuple[str, str]:
    """Where ROS 2 puts its log files, made if it is not there, and why it cannot be written, or ''."""
    # As rcl_logging_interface finds it.
    folder = os.environ.get("ROS_LOG_DIR", "")
    if not folder:
        home = os.environ.get("ROS_HOME", "") or "~/.ros"
        folder = os.path.join(home, "log")
    if folder.startswith("~") and not os.environ.get("HOME"):
        return folder, "there is no HOME"
    path = Path(folder.replace("~", os.environ.get("HOME", ""), 1) if folder.startswith("~") else folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\n")
            file.flush()
    except OSError as error:
        return str(path), error.strerror or str(error)
    return str(path), ""


def plain(error: Exception) -> str:
    """What the middleware says, without its layers and places in source files."""
    text = re.sub(r", at [^\s,]+:\d+", "", str(error)).removeprefix("failed to initialize rcl: ")
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
