"""Environment variables that large images over DDS need."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from rt_segmentation.resources import share_dir

PROFILES_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Until Jazzy, and since Kilted, which warns of the first."""


def transport_environment(alone: bool = False) -> dict[str, str]:
    """For every process that sends or receives images, before it starts; variables that are set are left out.

    Best-effort images larger than Fast DDS's default shared-memory segment are lost, so the writer needs a
    larger one; and with glibc's default thresholds the buffer of each image goes back to the kernel and is
    faulted in again.

    Args:
        alone: whether nothing may leave this machine; so it is with ROS_LOCALHOST_ONLY, too.
    """
    # Humble adds a profile's transports to those that it makes for this machine alone.
    alone = alone or os.environ.get("ROS_LOCALHOST_ONLY") == "1"
    profile = str(share_dir() / "config" / ("fastdds_localhost.xml" if alone else "fastdds.xml"))
    wanted = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    if not any(name in os.environ for name in PROFILES_VARIABLES):
        wanted[PROFILES_VARIABLES[0 if _is_before_kilted() else 1]] = profile
    return {key: value for key, value in wanted.items() if key not in os.environ}


def _is_before_kilted() -> bool:
    if "ROS_DISTRO" in os.environ:
        return os.environ["ROS_DISTRO"] in ("humble", "jazzy")
    try:
        # Fast DDS from pip has another name since.
        return bool(version("ros-fastrtps"))
    except PackageNotFoundError:
        return False
