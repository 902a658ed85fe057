"""A run's folder: what was run, where and when, beside what came out of it."""

from __future__ import annotations

import fcntl
import logging
import shlex
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from rt_segmentation.files import write_atomically
from rt_segmentation.models import ModelError, ModelManifest, read_manifest
from rt_segmentation.settings import load_yaml, read_file
from rt_segmentation.training.data_record import DataRecord
from rt_segmentation.training.errors import TrainingError
from rt_segmentation.training.machine import Machine
from rt_segmentation.training.recipe import Recipe, load_recipe
from rt_segmentation.training.store import SCORE_FILE

ANEW = "to train anew, give another --out or the recipe another name, or delete the folder"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The file from which the training resumes."""
        return self.path / "last.ckpt"

    @property
    def recipe(self) -> Path:
        """The recipe with all its values."""
        return self.path / "recipe.yaml"

    @property
    def data(self) -> Path:
        """A record of the data; runs of earlier versions have none."""
        return self.path / "data.yaml"

    @property
    def environment(self) -> Path:
        """A list of what each start of the training ran on."""
        return self.path / "environment.yaml"

    def resumed(self, recipe: Recipe, fitted: bool) -> Recipe:
        """As `check`, for a training that goes on from the checkpoint.

        Raises:
            TrainingError: the checkpoint is of another recipe, or damaged.
        """
        if not _is_whole(self.checkpoint):
            raise TrainingError(
                f"checkpoint {self.checkpoint} is damaged; put back a copy of it, or delete the folder"
            )
        return self.check(recipe, fitted)

    def check(self, recipe: Recipe, fitted: bool) -> Recipe:
        """The recipe that the checkpoint is of.

        Args:
            recipe: what is wanted.
            fitted: its epochs were fitted to the time, and are those of the first start.

        Raises:
            TrainingError: it is another one.
        """
        stored = load_recipe(self.recipe)
        if fitted:
            recipe = recipe.fitted(stored.epochs)
        pairs = {f.name: (getattr(stored, f.name), getattr(recipe, f.name)) for f in fields(Recipe)}
        differing = [_difference(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]
        if differing:
            raise TrainingError(
                f"folder {self.path} has a run with another {', '.join(differing)}; give another --out, or"
                " delete the folder"
            )
        return stored

    def check_data(self, now: DataRecord) -> None:
        """Make sure that the run goes on, or stays, with the data of its start.

        Raises:
            TrainingError: they are others, or their record is damaged.
        """
        if not self.data.is_file():
            return
        change = read_file(DataRecord, self.data, "record", TrainingError).change(now)
        if change:
            raise TrainingError(f"folder {self.path} has a run of other data: {change}; {ANEW}")

    def ended(self, name: str) -> tuple[ModelManifest, dict[str, Any]] | None:
        """The model of a run that has ended, with what `SCORE_FILE` says of it; None before.

        Args:
            name: of the recipe.
        """
        model, scores = self.path / f"{name}.yaml", self.path / SCORE_FILE
        if not model.is_file() or not scores.is_file():
            return None
        manifest = read_manifest(model)
        try:
            score = load_yaml(scores.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError):
            return None
        is_its = isinstance(score, dict) and score.get("sha256") == manifest.sha256
        return (manifest, score) if is_its else None

    def say_ended(self) -> None:
        """Say that the run has ended, and is not trained again."""
        _log.warning("the run in folder %s has ended: nothing was trained; %s", self.path, ANEW)

    def refuse_ended(self, results: Sequence[str]) -> None:
        """Make sure that a training that starts anew replaces no result.

        Args:
            results: names of the files that a training writes here.

        Raises:
            TrainingError: there is one of them.
        """
        for name in results:
            if (self.path / name).exists():
                raise TrainingError(
                    f"folder {self.path} has a result, {name}, and no {self.checkpoint.name} to resume from;"
                    " give another --out, or delete the folder"
                )

    def refuse_model(self, recipe: Recipe, fitted: bool) -> None:
        """As `refuse_ended`, for the recipe's model; one that nothing has measured may be replaced.

        It is of a training that was stopped before its first checkpoint, and that begins again.

        Raises:
            TrainingError: there is a model that has been measured, or of another recipe.
        """
        name = f"{recipe.name}.yaml"
        try:
            stopped = not read_manifest(self.path / name).scores
        except ModelError:
            stopped = False
        if stopped and self.recipe.is_file():
            self.check(recipe, fitted)
        else:
            self.refuse_ended([name])

    @contextmanager
    def begun(self, recipe: Recipe, data: DataRecord, machine: Machine) -> Iterator[None]:
        """Write the recipe and the data's record, note this start, and keep other trainings out meanwhile.

        Raises:
            TrainingError: another training is at work in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as held:
            try:
                # Of the process alone: its loader's processes may outlive it for some seconds.
                fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise TrainingError(
                    f"another training is at work in folder {self.path}; let it end, or give another --out"
                ) from None
            except OSError:
                # A file system without locks: as many trainings as the user starts.
                pass
            self._note(recipe, data, machine)
            yield

    def _note(self, recipe: Recipe, data: DataRecord, machine: Machine) -> None:
        _write_yaml(self.recipe, _plain(asdict(recipe)))
        _write_yaml(self.data, _plain(asdict(data)))
        starts = self._starts() if self.checkpoint.is_file() and self.environment.is_file() else []
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        start = {"started": now, "command": shlex.join(sys.argv), **machine.describe()}
        _write_yaml(self.environment, [*starts, start])

    def _starts(self) -> list[Any]:
        try:
            starts = load_yaml(self.environment.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, yaml.YAMLError):
            starts = None
        if not isinstance(starts, list):
            raise TrainingError(f"{self.environment} is damaged, no list of starts; delete it, or repair it")
        return starts


def _difference(name: str, stored: Any, wanted: Any) -> str:
    """A recipe's key, with its two values where they are short."""
    values = (stored, wanted)
    short = all(isinstance(value, str | int | float) and len(repr(value)) <= 40 for value in values)
    return f"{name} ({stored!r}, not {wanted!r})" if short else name


def _is_whole(checkpoint: Path) -> bool:
    """Whether all bytes are there and as they were written; PyTorch's files are zips."""
    try:
        with zipfile.ZipFile(checkpoint) as content:
            return content.testzip() is None
    except (zipfile.BadZipFile, EOFError):
        return False


def _write_yaml(path: Path, content: Any) -> None:
    text = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
    write_atomically(path, text.encode())


def _plain(value: Any) -> Any:
    """The same with lists for tuples, which YAML does not have."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
