"""Environment variables that large images over DDS need."""

from __future__ import annotations

import os

from rt_segmentation.resources import share_dir


def transport_environment() -> dict[str, str]:
    """For every process that sends or receives images, before it starts; variables that are set are left out.

    Best-effort images larger than Fast DDS's default shared-memory segment are lost, so the writer needs a
    larger one; and with glibc's default thresholds the buffer of each image goes back to the kernel and is
    faulted in again.
    """
    old = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
    profile = "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"
    wanted = {
        profile: str(share_dir() / "config" / "fastdds.xml"),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    }
    return {key: value for key, value in wanted.items() if key not in os.environ}
