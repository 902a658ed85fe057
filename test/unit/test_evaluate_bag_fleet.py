"""Many bags by several workers: the same result as by one, whatever happens to the workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: no bags to read")
pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: each worker would import PyTorch")

from support.street_bags import settings, street_bag, without_timings

from rt_segmentation.evaluation.bag.fleet import Crew, Death, Event, Failure, evaluate_fleet
from rt_segmentation.evaluation.bag.job import Job, Settings
from rt_segmentation.evaluation.bag.one import empty_state
from rt_segmentation.evaluation.bag.ray_fleet import RayCrew
from rt_segmentation.evaluation.bag.run import evaluate_bags
from rt_segmentation.evaluation.bag.state import BagState
from rt_segmentation.models import ModelManifest


class Told:
    """Remembers the progress, and may do something about it."""

    def __init__(self) -> None:
        self.finished: list[int] = []
        self.frames: dict[int, int] = {}

    def __call__(self, bag: int, frames: int, finished: bool) -> None:
        self.frames[bag] = frames
        if finished:
            self.finished.append(bag)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five bags, of which the fourth is none."""
    folder = tmp_path_factory.mktemp("bags")
    paths = [street_bag(folder / f"night_{i}", 12 + i, 3 * i) for i in range(5)]
    for file in paths[3].iterdir():
        file.write_bytes(b"\x00" * 100)
    return paths


@pytest.fixture(scope="module")
def alone(bags: list[Path], small_model: ModelManifest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of one process."""
    return evaluate(bags, small_model, tmp_path_factory.mktemp("alone"), Told())


def quick(model: ModelManifest, out: Path) -> Settings:
    """With an engine whose workers do not import PyTorch, once `alone` has filled the cache."""
    return settings(model, out, engine="onnxruntime")


def evaluate(bags: list[Path], model: ModelManifest, out: Path, told: Any, **changes: Any) -> Any:
    chosen, stop = quick(model, out), threading.Event()
    return comparable(evaluate_bags(bags, chosen, "rt_seg evaluate-bag", stop, told, **changes).to_plain())


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Without timings, and without the cores that each of several workers has."""
    result = without_timings(result)
    for model in result["models"]:
        assert model.pop("device")
    return result


def test_two_processes_give_the_result_of_one(
    bags: list[Path], alone: dict[str, Any], small_model: ModelManifest, tmp_path: Path
) -> None:
    told = Told()
    result = evaluate(bags, small_model, tmp_path, told, jobs=2)
    assert result == alone
    assert sorted(told.finished) == [0, 1, 2, 3, 4] and told.frames[4] == 16
    assert not result["partial"] and [bag["frames"] for bag in result["bags"]] == [12, 13, 14, 0, 16]
    assert len(result["problems"]) == 1 and "night_3" in result["problems"][0]
    for shown in result["models"][0]["shown"]:
        assert (tmp_path / shown["image"]).is_file()
    assert not multiprocessing.active_children()


class Killer(Told):
    """Kills workers when they tell of their first frames of a bag."""

    def __init__(self, victim: int, times: int) -> None:
        super().__init__()
        self._victim, self._left = victim, times

    def __call__(self, bag: int, frames: int, finished: bool) -> None:
        super().__call__(bag, frames, finished)
        if bag == self._victim and not finished and self._left:
            self._left -= 1
            for process in multiprocessing.active_children():
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)


def test_a_bag_whose_worker_was_killed_is_tried_once_more(
    bags: list[Path], alone: dict[str, Any], small_model: ModelManifest, tmp_path: Path
) -> None:
    result = evaluate(bags, small_model, tmp_path, Killer(0, 1), jobs=2)
    assert result["problems"] == alone["problems"]
    assert result == alone


class ScriptedCrew:
    """Workers that do what is written for each bag, in turn."""

    def __init__(self, script: dict[int, list[Event]]) -> None:
        self.script, self.hired, self.stopped = {k: deque(v) for k, v in script.items()}, 0, False
        self.given: list[tuple[int, bool]] = []
        self._at_work: dict[int, Job] = {}

    def hire(self) -> int:
        self.hired += 1
        return self.hired

    def give(self, worker: int, job: Job) -> None:
        self.given.append((job.index, job.resume))
        self._at_work[worker] = job

    def wait(self, timeout_s: float) -> list[tuple[int, Event]]:
        worker, job = next(iter(self._at_work.items()))
        event = self.script[job.index].popleft()
        if not isinstance(event, int):
            del self._at_work[worker]
        return [(worker, event)]

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        """Nothing to end."""


def jobs(model: ModelManifest, count: int) -> list[Job]:
    return [Job(settings(model, Path("out")), i, Path(f"bag_{i}")) for i in range(count)]


def test_a_bag_that_kills_two_workers_is_given_up_and_the_others_are_not(small_model: ModelManifest) -> None:
    work = jobs(small_model, 3)
    done = [empty_state(job, 11) for job in work]
    dead = Death("its worker died of signal 9")
    crew = ScriptedCrew({0: [5, dead, 5, dead], 1: [dead, done[1]], 2: [Death("no such topic", retry=False)]})
    found = evaluate_fleet(work, crew, 2, threading.Event(), Told())
    assert found == {0: "its worker died of signal 9", 1: done[1], 2: "no such topic"}
    # The second try goes on from what the first one saved.
    assert sorted(crew.given) == [(0, False), (0, True), (1, False), (1, True), (2, False)]


def test_a_worker_that_dies_between_two_bags_costs_neither_a_try(small_model: ModelManifest) -> None:
    work = jobs(small_model, 2)
    done = [empty_state(job, 11) for job in work]
    dead = Death("its worker died of signal 9")
    # One worker: it dies before it says a word of the second bag, the next one does so in the midst of it.
    crew = ScriptedCrew({0: [0, done[0]], 1: [dead, 0, dead, 0, done[1]]})
    found = evaluate_fleet(work, crew, 1, threading.Event(), Told())
    assert found == dict(enumerate(done)) and crew.hired == 3


def test_workers_are_kept_for_the_next_bag(small_model: ModelManifest) -> None:
    work = jobs(small_model, 6)
    script: dict[int, list[Event]] = {job.index: [empty_state(job, 11)] for job in work}
    crew = ScriptedCrew({**script, 1: [Failure("no labels")], 4: [0, Failure("no labels")]})
    found = evaluate_fleet(work, crew, 2, threading.Event(), Told())
    assert len(found) == 6 and found[1] == found[4] == "no labels"
    assert crew.hired == 2


def test_a_bag_with_a_video_is_begun_anew_by_its_second_worker(small_model: ModelManifest) -> None:
    job = Job(settings(small_model, Path("out"), video=True), 0, Path("bag_0"))
    crew = ScriptedCrew({0: [0, Death("its worker died of signal 9"), 0, empty_state(job, 11)]})
    evaluate_fleet([job], crew, 1, threading.Event(), Told())
    assert crew.given == [(0, False), (0, False)]


def test_a_worker_that_a_stop_ends_before_it_could_listen_leaves_its_bag_undone(
    small_model: ModelManifest,
) -> None:
    work, stop = jobs(small_model, 3), threading.Event()
    state = empty_state(work[0], 11)
    crew = ScriptedCrew({0: [1, state], 1: [Death("its worker died of signal 15")]})
    assert evaluate_fleet(work, crew, 2, stop, lambda *_: stop.set()) == {0: state}


def test_a_stop_begins_no_more_bags_and_waits_for_those_at_hand(small_model: ModelManifest) -> None:
    work = jobs(small_model, 4)
    states = [empty_state(job, 11) for job in work]
    crew = ScriptedCrew({0: [1, 2, states[0]], 1: [3, states[1]]})
    stop = threading.Event()

    def told(bag: int, frames: int, finished: bool) -> None:
        stop.set()

    assert evaluate_fleet(work, crew, 2, stop, told) == {0: states[0], 1: states[1]}
    assert crew.stopped and [index for index, _ in crew.given] == [0, 1]


@pytest.mark.long
def test_a_fleet_that_is_stopped_gives_back_what_it_has(
    bags: list[Path], alone: dict[str, Any], small_model: ModelManifest, tmp_path: Path
) -> None:
    stop = threading.Event()

    def told(bag: int, frames: int, finished: bool) -> None:
        if frames:
            stop.set()

    chosen = quick(small_model, tmp_path)
    result = evaluate_bags(bags, chosen, "", stop, told, jobs=2).to_plain()
    assert result["partial"]
    frames = [bag["frames"] for bag in result["bags"]]
    assert 0 < sum(frames) < 55 and result["models"][0]["received"] == sum(frames)
    whole = evaluate_bags(bags, chosen, "", threading.Event(), Told(), jobs=2, resume=True).to_plain()
    assert comparable(whole) == alone


def said(crew: Crew, worker: int) -> list[Event]:
    """What a worker says until its bag is over."""
    events: list[Event] = []
    while not events or isinstance(events[-1], int):
        events += [event for number, event in crew.wait(1.0) if number == worker]
    return events


@pytest.mark.long
def test_a_worker_of_ray_outlives_a_bag_that_fails_and_tells_when_it_begins(
    bags: list[Path], small_model: ModelManifest, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: no cluster")
    chosen = quick(small_model, tmp_path)
    broken = Job(chosen, 0, bags[0], resume=True)
    broken.state_path.parent.mkdir()
    broken.state_path.write_text("no state")
    with closing(RayCrew(chosen, "local")) as crew:
        worker = crew.hire()
        crew.give(worker, broken)
        (*_, failure) = said(crew, worker)
        assert isinstance(failure, Failure) and "0000.json is damaged" in failure.reason
        crew.give(worker, Job(chosen, 1, bags[1]))
        begun, done = said(crew, worker)
        assert begun == 0 and isinstance(done, BagState) and done.complete
        (process,) = ray_workers()
        os.kill(process, signal.SIGKILL)
        crew.give(worker, Job(chosen, 2, bags[2]))
        # Without a word of this bag, and so not by its fault.
        (death,) = said(crew, worker)
        assert isinstance(death, Death) and death.retry


def ray_workers() -> list[int]:
    """Process ids of this process's descendants that evaluate for Ray."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue
    found = []
    for process, title in titles.items():
        above = process
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and title.startswith("ray::Worker"):
            found.append(process)
    return found


class RayKiller(Told):
    """Kills a worker when the first bag is finished."""

    killed = 0

    def __call__(self, bag: int, frames: int, finished: bool) -> None:
        super().__call__(bag, frames, finished)
        if finished and not self.killed:
            for process in ray_workers():
                os.kill(process, signal.SIGKILL)
                self.killed += 1


@pytest.mark.long
def test_a_ray_cluster_gives_the_same_result_though_workers_are_killed(
    bags: list[Path], alone: dict[str, Any], small_model: ModelManifest, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: no cluster")
    killer = RayKiller()
    result = evaluate(bags, small_model, tmp_path, killer, jobs=2, ray="local")
    assert killer.killed and sorted(killer.finished) == [0, 1, 2, 3, 4]
    assert result == alone
