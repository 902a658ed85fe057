"""How far apart two cores are: a hypervisor may move a machine's cores between caches at any moment.

Engines split every layer between the cores, and each reads what the other wrote. Cores that share a cache
hand a value over several times as fast as others do; small layers then take half as long again. Timings of
such a machine can only be read with this beside them.
"""

from __future__ import annotations

import mmap
import os
import signal
import statistics
import subprocess
import sys
import time

ROUND_TRIPS = 4000
TIMEOUT_S = 10


def core_round_trip_ns() -> float | None:
    """The median time of a byte from the first core to the second and back [ns], with Python's share of it.

    None where there is one core, or where two could not be had.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return None
    try:
        # In a process of its own: it forks, which processes with threads must not.
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            text=True,
            check=True,
        )
        return float(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return None


def _play(own: int, other: int) -> float:
    with mmap.mmap(-1, mmap.PAGESIZE) as shared:
        child = os.fork()
        # Neither is left spinning if the other dies.
        signal.alarm(TIMEOUT_S)
        os.sched_setaffinity(0, {own if child else other})
        if not child:
            for _ in range(ROUND_TRIPS):
                while shared[0] != 1:
                    pass
                shared[0] = 0
            os._exit(0)
        durations_ns = []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter_ns()
            shared[0] = 1
            while shared[0] != 0:
                pass
            durations_ns.append(time.perf_counter_ns() - started)
        os.waitpid(child, 0)
    return statistics.median(durations_ns)


if __name__ == "__main__":
    print(_play(*sorted(os.sched_getaffinity(0))[:2]))
