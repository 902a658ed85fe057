"""Checkpoints from which a killed training resumes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning

EPOCH_S = 20.0
"""Of epochs that are shorter, not each one's end is saved."""


class Checkpoints(lightning.Callback):
    """Keeps one checkpoint, of an epoch's end or of a step since.

    A file of this name is always whole: it replaces the one before when it is written to the end.

    Args:
        path: of the checkpoint.
        interval_s: time between two in an epoch.
    """

    def __init__(self, path: Path, interval_s: float) -> None:
        self._path, self._interval_s = path, interval_s
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save if it is time to; after an epoch's last batch its end saves."""
        if trainer.is_last_batch:
            return
        # All processes take part in saving, so that one decides.
        if trainer.strategy.broadcast(time.monotonic() - self._saved >= self._interval_s):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save, unless the epochs are so short that saving would take longer than they do."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        due = time.monotonic() - self._saved >= min(EPOCH_S, self._interval_s)
        if last or trainer.strategy.broadcast(due):
            self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        unfinished = self._path.with_name(f".{self._path.name}")
        try:
            trainer.save_checkpoint(unfinished)
            if trainer.is_global_zero:
                os.replace(unfinished, self._path)
        except OSError as error:
            # The disk is full, and what is of no use need not fill it.
            unfinished.unlink(missing_ok=True)
            raise OSError(
                f"checkpoint {self._path} cannot be written: {error.strerror or error}; the same command goes"
                " on from the one before, where there is one"
            ) from error
        self._saved = time.monotonic()
