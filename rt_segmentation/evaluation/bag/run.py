"""An evaluation from beginning to end: bags in, the result and all files out."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from rt_segmentation.bags.errors import BagError
from rt_segmentation.bags.splits import check_apart, find_splits
from rt_segmentation.evaluation.bag.fleet import Crew, FleetProgress, Worker, evaluate_fleet
from rt_segmentation.evaluation.bag.job import (
    REALTIME,
    Job,
    Settings,
    find_models,
    output_labels,
    truth_labels,
)
from rt_segmentation.evaluation.bag.one import empty_state
from rt_segmentation.evaluation.bag.result import Evaluation
from rt_segmentation.evaluation.bag.shown import remove_pictures
from rt_segmentation.evaluation.bag.state import NO_VIDEO, BagState
from rt_segmentation.evaluation.bag.summary import all_shown, make_result
from rt_segmentation.evaluation.bag.truth import label_files
from rt_segmentation.evaluation.dataset import EvaluationError
from rt_segmentation.labels import LabelSet

RESULT = "evaluation.json"
MARK = ".rt_segmentation"
"""File in the folder `state` that tells whose it is: others have folders of that name as well."""
STATE_FILE = re.compile(r"\d{4,}\.json")
WRITTEN = ("frames", "masks", "videos", "state", "report")
BINS_IN_ALL, MAX_BINS, MIN_BINS = 4096, 256, 16
"""Bins of time of all bags together, and of each."""


def bins_of_each(bags: int) -> int:
    """Give the number of bins of time that are kept of each bag, so that memory hardly grows with bags."""
    return min(max(BINS_IN_ALL // bags, MIN_BINS), MAX_BINS)


def claim_folder(out: Path, overwrite: bool, resume: bool) -> None:
    """Make the output folder ready: nothing in it is overwritten by accident.

    A file in its folder `state` tells from now on that it is an evaluation's; without any other it is as good
    as new.

    Raises:
        EvaluationError: it holds something else, or an evaluation, and neither `overwrite` nor `resume` is
            given.
    """
    if out.exists() and not out.is_dir():
        raise EvaluationError(f"--out {out} is a file; it must be a folder")
    if _holds_files(out):
        if not _is_evaluation(out):
            raise EvaluationError(f"folder {out} holds something else than an evaluation; give another --out")
        if not (overwrite or resume):
            raise EvaluationError(
                f"folder {out} holds an evaluation: give --overwrite, --resume to continue it, or another"
                " --out"
            )
        if overwrite:
            for name in WRITTEN:
                shutil.rmtree(out / name, ignore_errors=True)
            (out / RESULT).unlink(missing_ok=True)
    (out / "state").mkdir(parents=True, exist_ok=True)
    (out / "state" / MARK).touch()


def _holds_files(out: Path) -> bool:
    return any(path.is_file() and path.name != MARK for path in out.rglob("*"))


def _is_evaluation(out: Path) -> bool:
    state = out / "state"
    if (state / MARK).exists():
        return True
    # Written before there was a mark.
    if state.is_dir() and any(STATE_FILE.fullmatch(path.name) for path in state.iterdir()):
        return True
    try:
        found = json.loads((out / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"bags", "models"} <= found.keys()


@contextmanager
def _claimed(out: Path, overwrite: bool, resume: bool) -> Iterator[None]:
    """`claim_folder`; after an error before anything was saved, no empty folders are left behind."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    claim_folder(out, overwrite, resume)
    try:
        yield
    except Exception:
        if not _holds_files(out):
            for name in WRITTEN:
                shutil.rmtree(out / name, ignore_errors=True)
            # The innermost first; what somebody else has filled meanwhile stays.
            with suppress(OSError):
                for folder in made:
                    folder.rmdir()
        raise


def evaluate_bags(
    paths: Sequence[Path],
    settings: Settings,
    command: str,
    stop: threading.Event,
    progress: FleetProgress,
    jobs: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Evaluation:
    """Evaluate bags; what is in the output folder is touched only after models and settings are checked.

    Args:
        paths: of the bags.
        settings: how.
        command: for the result.
        stop: ends it early; the result is partial then.
        progress: told how far each bag is.
        jobs: processes; with `ray` actors, by default one for each CPU of the cluster.
        ray: address of a Ray cluster, or 'local'.
        resume: continue an earlier evaluation in the output folder.
        overwrite: replace it.

    Returns:
        The result.

    Raises:
        EvaluationError: the settings do not go together, the output folder holds something, or no bag could
            be read.
        ModelError, EngineError: a model cannot be run.
        BagError: a bag is given twice.
    """
    labels = _check(settings, jobs, ray, resume)
    check_apart(paths)
    if ray is None and not resume:
        _check_bags(paths)
    work = [Job(settings, index, path.resolve(), resume) for index, path in enumerate(paths)]
    worker = Worker(settings, stop) if ray is None and (jobs or 1) == 1 else None
    with _claimed(settings.out, overwrite, resume):
        if worker is not None:
            found = _alone(worker, work, stop, progress)
        else:
            crew, size = _crew(settings, work, jobs, ray)
            with closing(crew):
                found = evaluate_fleet(work, crew, size, stop, progress)
        states = [_state(job, found.get(job.index), labels) for job in work]
        problems = [state.bag.problem for state in states]
        if not stop.is_set() and all(problems) and not any(state.next_index for state in states):
            raise EvaluationError(f"no bag could be read; {work[0].path}: {problems[0]}")
    for model in range(len(settings.models)):
        own = [state.models[model] for state in states]
        kept = all_shown(own)
        for shown in (one for state in own for one in state.shown if one not in kept):
            remove_pictures(settings.out, shown)
    return make_result(settings, labels, states, command)


def _check(settings: Settings, jobs: int | None, ray: str | None, resume: bool) -> LabelSet:
    """Refuse what cannot work; returns the label set of the models."""
    if jobs is not None and jobs < 1:
        raise EvaluationError(f"--jobs is {jobs}; it must be at least 1")
    if settings.mode != REALTIME and settings.parallel_frames != 1:
        raise EvaluationError(
            "--parallel-frames goes with --mode realtime; throughput takes as many as there are cores"
        )
    if settings.cloud_topic is not None and not settings.write_bag:
        raise EvaluationError("--cloud-topic goes with --write-bag: the labelled clouds are written there")
    if settings.mode == REALTIME and (ray is not None or (jobs or 1) > 1):
        raise EvaluationError(
            "real time wants the machine for one bag at a time; leave --jobs and --ray away"
        )
    if settings.video and resume:
        raise EvaluationError(f"{NO_VIDEO}; leave --video away, or start anew with --overwrite")
    if settings.label_topic is not None and settings.labels is not None:
        raise EvaluationError("ground truth comes from --label-topic or from --labels, not from both")
    if settings.labels is not None:
        label_files(settings.labels)
    first = find_models(settings.models, settings.groups)[0]
    truth_labels(first, settings.groups, settings.truth_classes)
    return output_labels(first, settings.groups)


def _check_bags(paths: Sequence[Path]) -> None:
    """Refuse paths none of which is a bag before an earlier evaluation is replaced."""
    problems = []
    for path in paths:
        try:
            find_splits(path)
        except BagError as error:
            problems.append(str(error))
        else:
            return
    raise EvaluationError(f"no bag could be read; {paths[0]}: {problems[0]}")


def _alone(
    worker: Worker, work: Sequence[Job], stop: threading.Event, progress: FleetProgress
) -> dict[int, BagState | str]:
    found: dict[int, BagState | str] = {}
    for job in work:
        if stop.is_set():
            break

        def told(frames: int, index: int = job.index) -> None:
            progress(index, frames, False)

        state = worker.evaluate(job, told)
        found[job.index] = state
        progress(job.index, state.next_index, True)
    return found


def _crew(settings: Settings, work: Sequence[Job], jobs: int | None, ray: str | None) -> tuple[Crew, int]:
    if ray is None:
        from rt_segmentation.evaluation.bag.local_fleet import LocalCrew

        size = min(jobs or 1, len(work))
        return LocalCrew(settings, size), size
    from rt_segmentation.evaluation.bag.ray_fleet import RayCrew

    crew = RayCrew(settings, ray)
    return crew, min(jobs or crew.cpus, len(work))


def _state(job: Job, found: BagState | str | None, labels: LabelSet) -> BagState:
    return found if isinstance(found, BagState) else empty_state(job, len(labels.classes), found)
