"""The deploy graphs: equal to the networks, and made of calls that every engine has."""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
import torch
from support.seeded import VARIANTS, variant_id
from torch import nn

from rt_segmentation.inference import deploy as deployed
from rt_segmentation.inference.deploy import deploy
from rt_segmentation.inference.deploy.folding import PHASES, sub_pixel
from rt_segmentation.inference.deploy.layers import MaxUnpool, PixelShuffle, max_pool
from rt_segmentation.inference.deploy.torch2trt_calls import COMMIT, CONVERTED, unconvertible_calls
from rt_segmentation.networks import build_network

every_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[variant_id(*variant) for variant in VARIANTS]
)
TRT_PAGE = Path(__file__).resolve().parents[2] / "docs" / "torch2trt.md"


def trained_like(name: str, options: dict[str, Any], images: torch.Tensor) -> nn.Module:
    """A network whose activations vary: statistics of a batch, scales of both signs, slopes unlike ReLU's."""
    torch.manual_seed(0)
    network = build_network(name, 5, **options)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.copy_(torch.empty_like(module.weight).uniform_(0.5, 1.5))
                module.weight[::3] *= -1
                module.bias.normal_(0, 0.3)
            if isinstance(module, nn.PReLU):
                module.weight.uniform_(-0.3, 0.6)
        network.train()(images)
    return network.eval()


@every_variant
@pytest.mark.parametrize(("height", "width"), [(64, 96), (45, 70)], ids=["fits", "padded"])
def test_equals_the_network(name: str, options: dict[str, Any], height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(1)
    # In float64: how far rounding in float32 goes differs by processor.
    images = torch.rand(2, 3, height, width, generator=generator).double()
    network = trained_like(name, options, images.float()).double()
    with torch.no_grad():
        expected = network(images)
        found = deploy(network.float(), height, width).double()(images)
    assert found.shape == expected.shape
    assert expected.std((2, 3)).min() > 1e-3 * expected.abs().max()
    far = (found - expected).abs().amax(1) > 1e-4 * expected.abs().max()
    differs = found.argmax(1) != expected.argmax(1)
    if name in ("enet", "segnet"):
        # Rounding may let another of two almost equal values win a pooling, whose place unpooling then takes.
        assert far.float().mean() < 0.01 and differs.float().mean() < 0.001
        return
    assert not far.any()
    top, second = expected.topk(2, 1).values.unbind(1)
    tie = top - second < 1e-4 * expected.abs().max()
    assert not (differs & ~tie).any()


@every_variant
def test_every_call_is_one_that_torch2trt_converts(name: str, options: dict[str, Any]) -> None:
    network = build_network(name, 5, **options).eval()
    images = torch.rand(1, 3, 45, 70)
    assert unconvertible_calls(deploy(network, 45, 70), images) == []


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("enet", "max_unpool2d"),
        ("enet", "conv_transpose2d"),
        ("enet", "nn.functional.pad"),
        ("linknet", "conv_transpose2d"),
        ("segnet", "max_unpool2d"),
        ("lednet", "channel_shuffle"),
    ],
)
def test_the_networks_themselves_are_refused(name: str, call: str) -> None:
    problems = unconvertible_calls(build_network(name, 5).eval(), torch.rand(1, 3, 64, 64))
    assert any(call in problem for problem in problems)


def test_the_page_has_every_call_and_the_commit() -> None:
    text = TRT_PAGE.read_text(encoding="utf-8")
    assert COMMIT in text
    missing = [name for name in CONVERTED if f"`{re.sub('^torch.nn.functional', 'F', name)}`" not in text]
    assert missing == []


@pytest.mark.parametrize("values", ["ties", "random"])
def test_unpooling_is_exact(values: str) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, 3, 8, 12, generator=generator)
    if values == "ties":
        x = x.round()
    pooled, winners = max_pool(x)
    expected, indices = nn.MaxPool2d(2, return_indices=True)(x)
    assert torch.equal(pooled, expected)
    y = torch.randn(2, 3, 4, 6, generator=generator)
    assert torch.equal(MaxUnpool()(y, winners), nn.MaxUnpool2d(2)(y, indices))


@pytest.mark.parametrize(("kernel", "margin", "bias"), [(3, 1, True), (3, 1, False), (2, 0, True)])
def test_transposed_convolution(kernel: int, margin: int, bias: bool) -> None:
    torch.manual_seed(3)
    transposed = nn.ConvTranspose2d(6, 4, kernel, 2, margin, margin, bias=bias)
    x = torch.randn(2, 6, 5, 7)
    with torch.no_grad():
        found = nn.Sequential(*sub_pixel(transposed), PixelShuffle())(x)
        torch.testing.assert_close(found, transposed(x))


def test_pixel_shuffle_is_torchs_with_channels_phase_by_phase() -> None:
    x = torch.arange(2 * 12 * 2 * 3).view(2, 12, 2, 3)
    by_channel = x.view(2, PHASES, 3, 2, 3).transpose(1, 2).reshape(2, 12, 2, 3)
    assert torch.equal(PixelShuffle()(x), nn.functional.pixel_shuffle(by_channel, 2))


def test_the_network_stays_as_it_is() -> None:
    network = build_network("enet", 5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    deployed = deploy(network, 64, 64)
    for parameter in deployed.parameters():
        parameter.data.add_(math.pi)
    assert network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_side_that_is_too_small_or_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="64 x 31, both must be 32 or more"):
        deploy(build_network("enet", 5), 31, 64)
    with pytest.raises(ValueError, match="10000000 x 64, both must be 16384 or less"):
        deploy(build_network("enet", 5), 64, 10_000_000)


def test_sums_are_written_as_operators() -> None:
    """A call of `x.add(y)` looks like `x + y` to the walker, and torch2trt has no converter for it."""
    folder = Path(deployed.__file__).parent
    methods = [
        f"{path.name}:{node.lineno}"
        for path in sorted(folder.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.rstrip("_") in ("add", "sub", "mul", "div")
    ]
    assert not methods
