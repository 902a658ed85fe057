"""A training on few images."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: no network to run")
pytest.importorskip("lightning", reason="training needs lightning: pip install lightning")

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm  # noqa: E402
from support.tiny_recipe import RECIPE  # noqa: E402

from rt_segmentation.settings import read_settings  # noqa: E402
from rt_segmentation.training.machine import Machine  # noqa: E402
from rt_segmentation.training.module import SegmentationModule  # noqa: E402
from rt_segmentation.training.recipe import Recipe, RecipeError, load_recipe  # noqa: E402
from rt_segmentation.training.run import Training  # noqa: E402


@pytest.mark.parametrize("network", ["enet", "lednet"])
def test_frozen_norms_keep_their_statistics(network: str) -> None:
    recipe = read_settings(Recipe, {**RECIPE, "network": network, "init_from": "x", "frozen_norms": True})
    torch.manual_seed(0)
    module = SegmentationModule(recipe, tuple(map(str, range(11))), frozenset(), torch.nn.Identity(), 1)
    # As it is made, and after a validation.
    frozen = [name for name, m in module.network.named_modules() if not m.training]
    module.eval()
    module.train()
    assert frozen and frozen == [name for name, m in module.network.named_modules() if not m.training]
    # Several GPUs normalise a batch together, by modules of another type.
    shared = TorchSyncBatchNorm().apply(copy.deepcopy(module))
    shared.train()
    assert any(isinstance(m, torch.nn.SyncBatchNorm) for m in shared.modules())
    assert frozen == [name for name, m in shared.network.named_modules() if not m.training]
    before = {key: value.clone() for key, value in module.network.state_dict().items()}
    module(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)).sum().backward()
    changed = {
        key for key, value in module.network.state_dict().items() if not torch.equal(value, before[key])
    }
    # Norms of layers that depend on the classes have statistics that no other model had.
    assert all(before[key].shape in ((), (11,), (1,)) for key in changed) and (changed or network == "enet")
    # Their scales and shifts learn, and dropout drops.
    norms = [m for m in module.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.weight.grad is not None for norm in norms)
    assert any(m.training for m in module.network.modules() if "Dropout" in type(m).__name__)


def test_frozen_norms_need_a_start() -> None:
    recipe = replace(load_recipe("own_data"), init_from="")
    with pytest.raises(
        RecipeError, match=r"'own_data' has frozen_norms, .* give it init_from, or --init-from"
    ):
        Training.prepare(recipe, None, Machine.here("fp32", 0))
    with pytest.raises(ValueError, match=r"'frozen_norms' .* classification has none"):
        replace(load_recipe("lednet_imagenet"), frozen_norms=True)
