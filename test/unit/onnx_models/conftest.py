"""A network as graphs of free and of fixed size, and frames for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from rt_segmentation.data.synthetic import StreetScene
from rt_segmentation.models import ModelManifest

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    from support.imported import SIZE

    return np.stack([StreetScene(seed, *SIZE).render(0.0)[0] for seed in (1, 2)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def lraspp(folder: Path) -> nn.Module:
    from support import foreign
    from support.imported import SIZE

    network = foreign.seeded(foreign.LRASPP())
    foreign.export(network, folder / "free.onnx", SIZE)
    foreign.export(network, folder / "fixed.onnx", SIZE, free=False)
    return network


@pytest.fixture(scope="module")
def fixed(folder: Path, lraspp: nn.Module) -> ModelManifest:
    from support.imported import NORMALISED, imported

    return imported(folder / "fixed.onnx", "fixed", *NORMALISED)


@pytest.fixture
def net(tmp_path: Path, folder: Path, lraspp: nn.Module) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes((folder / "free.onnx").read_bytes())
    return path
