"""ONNX graphs imported as models by the command, and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rt_segmentation.cli import main
from rt_segmentation.models import ModelManifest, find_model
from support import foreign

SIZE = (96, 64)
NORMALISED = ["--mean", *map(str, foreign.MEAN), "--std", *map(str, foreign.STD)]


def imported(path: Path, name: str, *options: str) -> ModelManifest:
    arguments = ["models", "import", str(path), "--name", name, "--out", str(path.parent)]
    assert main([*arguments, "--label-set", "camvid11", *options]) == 0
    return find_model(path.parent / f"{name}.yaml")


def refusal(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    """The sentence with which an import ends that leaves nothing behind."""
    capsys.readouterr()
    arguments = ["models", "import", str(path), "--name", "refused", "--out", str(path.parent)]
    labels = [] if "--label-set" in options else ["--label-set", "camvid11"]
    assert main([*arguments, *labels, *options]) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and sentence.startswith("rt_seg models: ")
    assert not list(path.parent.glob("refused*"))
    return sentence


def write(path: Path, rgb: np.ndarray) -> None:
    from rt_segmentation.imaging.pictures import write_picture

    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, rgb)
