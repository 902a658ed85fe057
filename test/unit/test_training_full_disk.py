"""A checkpoint that finds no room on the disk: the one before stays, and the sentence says what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from rt_segmentation.training.checkpoints import Checkpoints


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"before")

    def fill(unfinished: Path) -> None:
        unfinished.write_bytes(b"half")
        # As the library has it, which writes into another folder first.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x", None, str(unfinished))

    trainer = SimpleNamespace(
        is_last_batch=False,
        save_checkpoint=fill,
        strategy=SimpleNamespace(broadcast=lambda decided: decided),
    )
    with pytest.raises(OSError, match=r"last\.ckpt cannot be written: No space left on device; the same com"):
        Checkpoints(path, interval_s=0.0).on_train_batch_end(cast(Any, trainer))
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
