"""What the package logs through Python's logging goes into the node's ROS log."""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger

from rt_segmentation.text import printable


class RosHandler(logging.Handler):
    """Hands records to a ROS logger, at the nearest of its levels."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record; an error in its arguments is reported by Python's logging, and never raised."""
        try:
            message = printable(self.format(record))
        except Exception:
            self.handleError(record)
            return
        # rcutils tells calls apart by their line, and a line may not change its level.
        if record.levelno >= logging.ERROR:
            self._logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(message)
        else:
            self._logger.info(message)


def log_through(logger: RcutilsLogger) -> None:
    """From now on, and for this process, send the package's records of level INFO and up to a ROS logger.

    Of several nodes in a process the first one's logger has them; where the process has its own handler for
    the package they stay there.
    """
    package = logging.getLogger("rt_segmentation")
    if package.handlers:
        return
    package.setLevel(logging.INFO)
    package.handlers = [RosHandler(logger)]
    package.propagate = False
