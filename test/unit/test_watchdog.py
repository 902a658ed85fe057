"""The watchdog ends a process that is frozen and no other: seen in a process of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rt_segmentation.ros.watchdog import _remove

LIMIT_S = 2.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
PROGRAM = f"""
import ctypes, os, sys, time
from rt_segmentation.ros.watchdog import Watchdog

def beat_for(duration_s):
    over = time.monotonic() + duration_s
    while time.monotonic() < over:
        watchdog.beat()
        time.sleep(0.02)

def keep_the_lock(duration_s):
    # Python's lock is not let go around what is called through a PyDLL.
    ctypes.PyDLL(None).usleep(int(duration_s * 1e6))

watchdog = Watchdog({LIMIT_S})
print("begun", flush=True)
sys.stdin.readline()
beat_for(0.5)
with watchdog.long_work():
    keep_the_lock({2 * LIMIT_S})
print("worked", flush=True)
beat_for(0.5)
if sys.argv[1] == "close":
    watchdog.close()
    # It may get the number of the pipe.
    with open(sys.argv[2], "w+b") as file, watchdog.long_work():
        for _ in range(20):
            watchdog.beat()
            time.sleep({LIMIT_S} / 10)
        assert os.path.getsize(sys.argv[2]) == 0
    print("closed", flush=True)
else:
    keep_the_lock(600)
"""


def start(ending: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, ending, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def test_a_frozen_process_is_ended_with_its_stacks_and_a_stopped_or_busy_one_is_not() -> None:
    with start("freeze") as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(2 * LIMIT_S)
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        output, errors = process.communicate("\n", timeout=60.0)
    assert output == "worked\n"
    assert process.returncode == -signal.SIGABRT
    said, _, stacks = errors.partition("\n")
    assert said.startswith(f"[FATAL] process {process.pid} is frozen: no sign of life for {LIMIT_S:g} s")
    assert said.endswith("(parameter `watchdog_s`); it is ended now, and this is where its threads stand:")
    assert "in keep_the_lock" in stacks


def test_one_that_is_no_longer_watched_goes_on(tmp_path: Path) -> None:
    with start("close", str(tmp_path / "file")) as process:
        output, errors = process.communicate("\n", timeout=60.0)
    assert (process.returncode, output, errors) == (0, "begun\nworked\nclosed\n", "")


def test_segments_are_removed_unless_somebody_owns_them(tmp_path: Path) -> None:
    left, owned, without_lock = (tmp_path / name for name in ("left", "owned", "without_lock"))
    locks = [tmp_path / f"{path.name}_el" for path in (left, owned)]
    for path in (left, owned, without_lock, *locks):
        path.touch()
    with locks[1].open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove({str(path) for path in (left, owned, without_lock, tmp_path / "gone")})
    assert sorted(tmp_path.iterdir()) == sorted((owned, without_lock, locks[1]))


# Locks a segment as its owner does; a process that it forks has lock and pipe as well.
OWNER = f"""
import fcntl, os, sys, time
from rt_segmentation.ros.watchdog import Watchdog

lock = open(sys.argv[1] + "_el", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
open(sys.argv[1], "w").close()
watchdog = Watchdog({LIMIT_S / 2})
if os.fork():
    print("begun", flush=True)
    while True:
        watchdog.beat()
        time.sleep(0.02)
os.close(1)
time.sleep({2 * LIMIT_S})
"""


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no /dev/shm here")
def test_a_killed_process_leaves_no_segment_when_its_forks_have_ended() -> None:
    segment = Path(f"/dev/shm/fastdds_{os.urandom(8).hex()}")
    command = [sys.executable, "-c", OWNER, str(segment)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(LIMIT_S)
        process.kill()
    assert segment.exists()
    over = time.monotonic() + 60.0
    while segment.exists() and time.monotonic() < over:
        time.sleep(0.05)
    assert not segment.exists() and not Path(f"{segment}_el").exists()


STOPPED = """
import os, signal, time
from rt_segmentation.ros.watchdog import Watchdog

watchdog = Watchdog(60.0)
os.kill(watchdog._child.pid, signal.SIGSTOP)
began = time.monotonic()
watchdog.close()
print(time.monotonic() - began)
os.kill(watchdog._child.pid, signal.SIGCONT)
"""


def test_a_watch_that_somebody_stopped_does_not_hold_up_the_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, text=True, env=ENVIRONMENT, timeout=60.0
    )
    assert (done.returncode, done.stderr) == (0, "") and float(done.stdout) < 30.0
