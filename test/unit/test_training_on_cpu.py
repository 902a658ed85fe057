"""Training on a CPU takes other ways than PyTorch's own, to the same losses, gradients and networks."""

from __future__ import annotations

import copy
import itertools
import os
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rt_segmentation.cli import main
from rt_segmentation.labels import IGNORE_ID
from rt_segmentation.networks import build_network
from rt_segmentation.training.losses import SegmentationLoss, cross_entropy, dice_loss, lovasz_softmax
from rt_segmentation.training.on_cpu import ChannelPReLU, suit_cpu
from rt_segmentation.training.recipe import Loss

CLASSES = 5
WEIGHTS = np.linspace(0.5, 4, CLASSES)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


class PlainLoss(SegmentationLoss):
    """The terms one by one, with PyTorch's own gradients."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `SegmentationLoss.forward`."""
        settings, logits = self.settings, logits.float().contiguous()
        probabilities = logits.softmax(1)
        return (
            settings.cross_entropy * cross_entropy(logits, labels, self.weights)
            + settings.dice * dice_loss(probabilities, labels)
            + settings.lovasz * lovasz_softmax(probabilities, labels)
        )


def some_labels(*shape: int) -> torch.Tensor:
    labels = torch.randint(0, CLASSES - 1, shape)
    labels[torch.rand(labels.shape) < 0.2] = IGNORE_ID
    return labels


@pytest.mark.parametrize(
    "settings",
    [
        Loss(cross_entropy=ce, dice=dice, lovasz=lovasz)
        for ce, dice, lovasz in itertools.product((0.0, 0.7), (0.0, 2.0), (0.0, 3.0))
        if ce or dice or lovasz
    ],
    ids=lambda loss: f"{loss.cross_entropy}-{loss.dice}-{loss.lovasz}",
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_terms_together_have_the_value_and_gradient_of_each(settings: Loss, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits, labels = (4 * torch.randn(3, CLASSES, 9, 14)).to(dtype), some_labels(3, 9, 14)
    values, gradients = [], []
    for kind in (PlainLoss, SegmentationLoss):
        given = logits.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind is SegmentationLoss):
            value = kind(settings, WEIGHTS)(given, labels)
        (gradient,) = torch.autograd.grad(3 * value, given)
        values.append(value.detach())
        gradients.append(gradient)
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert not gradients[1].movedim(1, -1)[labels == IGNORE_ID].any()


def test_a_loss_without_a_gradient_is_the_same() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, CLASSES, 4, 4), some_labels(1, 4, 4)
    loss = SegmentationLoss(Loss(dice=1), WEIGHTS)
    with torch.no_grad():
        found = loss(logits, labels)
    torch.testing.assert_close(found, PlainLoss(Loss(dice=1), WEIGHTS)(logits, labels))


@pytest.mark.parametrize("layout", LAYOUTS, ids=["first", "last"])
@pytest.mark.parametrize("of_gradient", LAYOUTS, ids=["gradient-first", "gradient-last"])
def test_a_prelu_has_the_gradients_of_pytorchs(
    layout: torch.memory_format, of_gradient: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Parts of two frames and of one.
    monkeypatch.setattr("rt_segmentation.training.on_cpu.PART_BYTES", 2 * 4 * 3 * 6 * 7)
    torch.manual_seed(0)
    slopes = torch.tensor([0.25, -0.5, 1.5])
    pixels = torch.randn(5, 3, 6, 7).contiguous(memory_format=layout)
    pixels[0, 0, 0] = 0
    gradient = torch.randn(5, 3, 6, 7).contiguous(memory_format=of_gradient)
    plain = nn.PReLU(3)
    fast = nn.Sequential(nn.PReLU(3))
    suit_cpu(fast)
    assert type(fast[0]) is ChannelPReLU
    found = []
    for module in (plain, fast):
        for parameter in module.parameters():
            parameter.data.copy_(slopes)
        x = pixels.clone(memory_format=torch.preserve_format).requires_grad_()
        out = module(x)
        out.backward(gradient)
        found.append((out, x.grad, next(module.parameters()).grad))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 7), (2, 3, 4, 5, 6)], ids=len)
def test_a_prelu_takes_other_than_pictures(shape: tuple[int, ...]) -> None:
    """As in a network of one's own, behind a linear layer or a convolution along one axis."""
    torch.manual_seed(0)
    pixels = torch.randn(shape)
    found = []
    for fast in (False, True):
        prelu = nn.PReLU(3)
        if fast:
            suit_cpu(nn.Sequential(prelu))
        x = pixels.clone().requires_grad_()
        prelu(x).square().sum().backward()
        found.append((x.grad, prelu.weight.grad))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


class BatchNormsGradients(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether the gradients that batch norm gets are in a layout."""

    def __init__(self, layout: torch.memory_format) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._layout = layout
        self.dense: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `TorchDispatchMode`."""
        if func is torch.ops.aten.native_batch_norm_backward.default:
            self.dense.append(args[0].is_contiguous(memory_format=self._layout))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", LAYOUTS, ids=["first", "last"])
def test_batch_norm_gets_gradients_in_its_own_layout(layout: torch.memory_format) -> None:
    pixels, gradient = (torch.randn(2, c, 6, 5).contiguous(memory_format=layout) for c in (4, 8))
    found = []
    for fast in (False, True):
        network = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        if fast:
            suit_cpu(network)
        x = pixels.clone(memory_format=torch.preserve_format).requires_grad_()
        # The gradient of a part of a concatenation is a part of the gradient.
        out = torch.cat((network[0](x), network(x)), 1)
        with BatchNormsGradients(layout) as seen:
            torch.autograd.backward(out, gradient)
        assert all(seen.dense) == fast and len(seen.dense) == 2
        found.append(x.grad)
    torch.testing.assert_close(*found)


# LEDNet's pyramid normalises a single pixel of 64x64: no rounding stays small there.
@pytest.mark.parametrize(("name", "size"), [("enet", 64), ("lednet", 128), ("linknet", 64)])
@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16"])
def test_networks_train_to_the_same_losses(name: str, size: int, precision: str) -> None:
    mixed, real = precision == "bf16", torch.float64 if precision == "fp64" else torch.float32
    torch.manual_seed(0)
    plain = build_network(name, CLASSES).train().to(real)
    # torch's stubs lack the one-argument form.
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fast = copy.deepcopy(plain)
    suit_cpu(fast)
    # As averaging and the measurement of a step copy it.
    fast = copy.deepcopy(fast)
    assert list(plain.state_dict()) == list(fast.state_dict())
    images, labels = torch.rand(2, 3, size, size).to(real), some_labels(2, size, size)
    settings = Loss(dice=1)
    losses: list[list[float]] = []
    gradients = []
    for network, loss in (
        (plain, PlainLoss(settings, WEIGHTS)),
        (fast, SegmentationLoss(settings, WEIGHTS)),
    ):
        # Small steps, several in float64 alone: a network's own course soon magnifies what rounding changes,
        # and how much that is differs by processor.
        optimizer = torch.optim.SGD(network.parameters(), 1e-4)
        losses.append([])
        for step in range(3 if real is torch.float64 else 1):
            torch.manual_seed(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                value = loss(network(images), labels)
            optimizer.zero_grad()
            value.backward()
            if not step:
                gradients.append([p.grad for p in network.parameters() if p.grad is not None])
            optimizer.step()
            losses[-1].append(value.item())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    # Together: the gradients of biases in front of batch norm are 0 but for rounding.
    one, other = (torch.cat([p.flatten().double() for p in of_network]) for of_network in gradients)
    assert F.cosine_similarity(one, other, 0) > (0.98 if mixed else 0.99999)


def test_threads_that_wait_sleep_unless_the_user_wants_it_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    # So that it is as it was, afterwards.
    monkeypatch.setenv("OMP_WAIT_POLICY", "")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert main(["train", "no_such_recipe"]) == 2
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert main(["train", "no_such_recipe"]) == 2
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_what_is_compiled_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(3))
    suit_cpu(network)
    x = torch.randn(2, 3, 4, 4)
    expected = network(x)
    monkeypatch.delattr("rt_segmentation.training.on_cpu._PReLU")
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(network(x), expected)


@pytest.mark.long
def test_torch_compile_takes_a_network_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.PReLU(3))
    suit_cpu(network)
    x = torch.randn(2, 3, 4, 4)
    expected = network(x)
    # What is not compiled would fail.
    monkeypatch.delattr("rt_segmentation.training.on_cpu._PReLU")
    network.compile(backend="eager", fullgraph=True)
    torch.testing.assert_close(network(x), expected)
