"""Nodes as processes, and the environment that all of them share."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rt_segmentation.ros.environment import transport_environment
from rt_segmentation.ros.parameters import Value, yaml_value

DOMAINS = range(1, 102)
"""Not the default, 0; above 101 a domain's ports are among those that Linux hands out to anybody."""

FIRST_PORT, PORTS_OF_DOMAIN = 7400, 250
"""Of domain 0, and of each: DDSI-RTPS, Section 9.6.1."""


def ros_environment() -> dict[str, str]:
    """The environment for processes that talk over DDS on this machine and with each other alone."""
    local = (
        "ROS_LOCALHOST_ONLY" if os.environ.get("ROS_DISTRO") == "humble" else "ROS_AUTOMATIC_DISCOVERY_RANGE"
    )
    return {
        # ROS 2 from PyPI lives in the environment of this Python.
        "AMENT_PREFIX_PATH": sys.prefix,
        **os.environ,
        **transport_environment(alone=True),
        "ROS_DOMAIN_ID": str(unused_domain()),
        local: "1" if local == "ROS_LOCALHOST_ONLY" else "LOCALHOST",
    }


def unused_domain() -> int:
    """A ROS domain that no process of this machine is in: the topics must not meet those of a robot.

    Processes of other machines are met by none that talk on this machine alone. Those of Zenoh, which has no
    ports of domains, are not seen.
    """
    used = {(port - FIRST_PORT) // PORTS_OF_DOMAIN for port in _udp_ports()}
    return random.choice([domain for domain in DOMAINS if domain not in used] or DOMAINS)


def _udp_ports() -> Iterator[int]:
    """UDP ports that are open on this machine; none where the system does not list them."""
    for name in ("udp", "udp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                # The second field is the local address, as 0100007F:6824.
                yield int(line.split()[1].rpartition(":")[2], 16)


class Process:
    """A node's Python module in a process of its own, in a session of its own; ended with the `with` block.

    Args:
        module: as for ``python -m``.
        parameters: the node's, by name.
        environment: its environment.
        log: its stdout and stderr.
        namespace: of the node.
    """

    def __init__(
        self,
        module: str,
        parameters: Mapping[str, Value],
        environment: dict[str, str],
        log: Path,
        namespace: str = "/",
    ) -> None:
        self.log = log
        self._file = log.open("wb")
        # rcl reads a value as YAML, where ` #` begins a comment.
        overrides = [w for key, value in parameters.items() for w in ("-p", f"{key}:={yaml_value(value)}")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, "--ros-args", "-r", f"__ns:={namespace}", *overrides],
            env=environment,
            stdout=self._file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self, timeout_s: float = 5.0) -> int:
        """Interrupt it as Ctrl-C would, kill it if that does not help; returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        status = self._process.wait()
        self._file.close()
        return status

    def cpu_seconds(self) -> float:
        """Processor time it has taken so far [s]; 0 once it has ended."""
        try:
            # Fields 14 and 15 of proc_pid_stat(5), counted after the name, which may hold blanks.
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Its resident memory [MB]; 0 once it has ended."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except OSError:
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
