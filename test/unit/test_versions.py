"""Versions of graphs are raised by hand: whoever changes what a network becomes is told here.

`python test/unit/test_versions.py` notes the graphs as they are now.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from test_deploy import VARIANTS  # type: ignore[import-not-found]
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from rt_segmentation import networks
from rt_segmentation.inference import versions
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.engines.graph import EngineGraph
from rt_segmentation.inference.versions import graph_version

NOTED = Path(__file__).with_name("graphs.json")
HEIGHT, WIDTH = 36, 52
GRAPHS = {"-".join((name, *map(str, options.values()))): (name, options) for name, options in VARIANTS}
GRAPHS["own"] = ("own", {})


class Calls(TorchFunctionMode):
    """Notes every call that gives tensors, with their types and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, (tuple, list)) else (result,)
        if all(isinstance(tensor, torch.Tensor) for tensor in tensors):
            shapes = " ".join(f"{t.dtype}{list(t.shape)}" for t in tensors)
            self.made.append(f"{resolve_name(func) or func.__name__} {shapes}")
        return result


def drawn(network: nn.Module) -> nn.Module:
    """With weights that no version of torch draws otherwise, and values of one size in all layers."""
    # Repeated, as a drawing of millions takes its time.
    numbers = np.random.RandomState(0).uniform(-1, 1, 10_007)
    network = network.to_empty(device="cpu")
    for name, tensor in network.state_dict().items():
        values = np.resize(numbers, tuple(tensor.shape))
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            values = 1 + values / 4
        elif tensor.dim() > 1:
            values *= math.sqrt(3 / (tensor.numel() / len(tensor)))
        tensor.copy_(torch.from_numpy(np.asarray(values)))
    return network.eval()


def look(key: str) -> dict[str, Any]:
    """What a network becomes: its calls, and some of its logits with their size."""
    name, options = GRAPHS[key]
    with torch.device("meta"):
        own = name == "own"
        network = nn.Conv2d(3, 5, 3, padding=1) if own else networks.build_network(name, 5, **options)
    graph = EngineGraph(deploy(drawn(network), HEIGHT, WIDTH), (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)).eval()
    images = np.random.RandomState(1).randint(0, 256, (1, HEIGHT, WIDTH, 3)).astype(np.uint8)
    with torch.no_grad():
        with Calls() as calls:
            graph(torch.from_numpy(images))
        logits = graph.network(graph.normalise(torch.from_numpy(images)))
    return {
        "version": graph_version(name),
        "calls": hashlib.sha256("\n".join(calls.made).encode()).hexdigest()[:16],
        "logits": [float(f"{value:.5g}") for value in logits.flatten()[:: logits.numel() // 7].tolist()],
        "spread": float(f"{logits.std():.5g}"),
    }


@pytest.mark.parametrize("key", GRAPHS)
def test_a_graph_that_changes_has_another_version(key: str) -> None:
    noted, now = json.loads(NOTED.read_text()).get(key), look(key)
    how = f"python test/unit/{Path(__file__).name}"
    assert noted is not None, f"'{key}' is new: note its graph with `{how}`"
    same = noted["calls"] == now["calls"] and np.allclose(
        noted["logits"], now["logits"], rtol=0, atol=1e-3 * noted["spread"]
    )
    assert same or noted["version"] != now["version"], (
        f"the graph of '{key}' has changed: raise its number in rt_segmentation/inference/versions.py (GRAPH"
        f" where those of all have changed), and note it with `{how}`"
    )
    assert noted["version"] == now["version"], f"'{key}' has a new version: note its graph with `{how}`"


def test_all_networks_of_the_package_have_a_version() -> None:
    assert versions.NETWORKS.keys() == networks.NETWORKS.keys() == {name for name, _ in VARIANTS}


if __name__ == "__main__":
    NOTED.write_text(json.dumps({key: look(key) for key in GRAPHS}, indent=1) + "\n")
