"""A training that is stopped has its status, its folder alone, and one sentence for what is damaged in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from support.models import save_untrained  # noqa: E402
from support.small_network import SMALL, SmallNetwork  # noqa: E402
from support.small_training import SMALLEST, here, street, write_recipe  # noqa: E402

from rt_segmentation import cli  # noqa: E402
from rt_segmentation.models import Score, write_manifest  # noqa: E402
from rt_segmentation.training.data_record import DataRecord  # noqa: E402
from rt_segmentation.training.errors import TrainingError  # noqa: E402
from rt_segmentation.training.module import SegmentationModule  # noqa: E402
from rt_segmentation.training.recipe import load_recipe  # noqa: E402
from rt_segmentation.training.run import Training, train  # noqa: E402
from rt_segmentation.training.run_folder import RunFolder  # noqa: E402

HOLD = """
import fcntl, sys
held = open(sys.argv[1], "w")
fcntl.lockf(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_has_its_status_and_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    number: int,
    status: int,
) -> None:
    small = {"augmentation": SMALLEST, "train": [street(1, 1000, 8)], "validation": street(1, 50)}
    recipe = write_recipe(tmp_path, **small)
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(
        SegmentationModule, "on_train_batch_start", lambda *_: os.kill(os.getpid(), number), raising=True
    )

    ended: Any = None
    try:
        ended = cli.main(["train", str(recipe), "--out", str(tmp_path), "--workers", "0"])
    except SystemExit as exit_:
        ended = exit_.code
    finally:
        signal.signal(signal.SIGINT, handler)

    assert ended == status
    assert "the training was stopped; the same command resumes it" in caplog.text
    assert capsys.readouterr().err == ("rt_seg train: interrupted\n" if status == 130 else "")


def test_a_training_without_a_checkpoint_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is stopped between its first validation and its first checkpoint."""
    recipe, folder = load_recipe(write_recipe(tmp_path)), RunFolder(tmp_path / "tiny")

    def begin(*_: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(Training, "prepare", begin)
    with folder.begun(recipe, DataRecord.of(recipe, None), here()):
        model = save_untrained(folder.path / "tiny.yaml", SmallNetwork(11), SMALL, (96, 64))
    with pytest.raises(InterruptedError):
        train(recipe, None, tmp_path, here())
    with pytest.raises(TrainingError, match=r"has a run with another seed \(1, not 5\)"):
        train(replace(recipe, seed=5), None, tmp_path, here())
    write_manifest(replace(model, scores=(Score("mean_iou", "street", "", 0.5, 96, 64),)))
    with pytest.raises(TrainingError, match=r"has a result, tiny.yaml, and no last.ckpt to resume from"):
        train(recipe, None, tmp_path, here())


def test_a_folder_has_one_training_at_a_time(tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path / "tiny"), load_recipe(write_recipe(tmp_path))
    with folder.begun(recipe, DataRecord.of(recipe, None), here()):
        pass
    noted = folder.environment.read_bytes()
    # The lock is one between processes.
    command = [sys.executable, "-c", HOLD, str(folder.path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(
                TrainingError, match=r"another training is at work in folder .*tiny; let it end, or"
            ),
            folder.begun(recipe, DataRecord.of(recipe, None), here()),
        ):
            pass
        other.stdin.close()
    assert folder.environment.read_bytes() == noted
    with folder.begun(recipe, DataRecord.of(recipe, None), here()):
        pass


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", None], ids=["empty", "cut off", "a byte changed"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    folder = RunFolder(tmp_path / "tiny")
    recipe = load_recipe(write_recipe(tmp_path))
    with folder.begun(recipe, DataRecord.of(recipe, None), here()):
        torch.save({"weights": torch.arange(1000)}, folder.checkpoint)
    assert folder.resumed(recipe, fitted=False) == recipe
    if content is None:
        whole = bytearray(folder.checkpoint.read_bytes())
        whole[len(whole) // 2] ^= 1
        content = bytes(whole)
    folder.checkpoint.write_bytes(content)
    with pytest.raises(TrainingError, match=r"last\.ckpt is damaged; put back a copy of it, or delete"):
        folder.resumed(recipe, fitted=False)


@pytest.mark.parametrize("content", ["a: [", "text", "\xff"])
def test_damaged_notes_of_the_starts_are_one_sentence(tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path / "tiny")
    recipe = load_recipe(write_recipe(tmp_path))
    with folder.begun(recipe, DataRecord.of(recipe, None), here()):
        folder.checkpoint.touch()
    folder.environment.write_bytes(content.encode("latin-1"))
    with (
        pytest.raises(TrainingError, match=r"environment\.yaml is damaged"),
        folder.begun(recipe, DataRecord.of(recipe, None), here()),
    ):
        pass
