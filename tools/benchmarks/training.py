"""How many frames per second the networks train on a CPU: by PyTorch alone, by `rt_seg train`, and compiled.

`python -m tools.benchmarks.training` writes training.json and training.md. With several numbers of threads
`rt_seg train` is measured with each, as it takes the fastest by itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rt_segmentation.benchmark.report import Result, page_head, write_result
from rt_segmentation.commands.options import add_out, at_least, parse_size, say
from rt_segmentation.networks import build_network
from rt_segmentation.training.losses import SegmentationLoss, dice_loss
from rt_segmentation.training.on_cpu import suit_cpu
from rt_segmentation.training.recipe import Loss
from tools.running import run_tool

OWN, OURS, COMPILED = "PyTorch's own", "`rt_seg train`", "`rt_seg train --compile`"
CLASSES = 11
SEED = 1
STEPS = 4
"""Of each way in a round."""

_HEADS = (
    *("network", "crops, batch, precision", "threads", "way"),
    *("frames/s", "times as fast", "rounds", "first step [s]"),
)

Step = Callable[[], float]
"""A step of a training; gives its loss."""


@dataclass(frozen=True)
class Row:
    """One network trained in one way.

    Attributes:
        network: its name.
        way: one of `OWN`, `OURS`, `COMPILED`.
        threads: of PyTorch.
        width, height, batch: of what a step trains on [px].
        precision: of the steps, 'fp32' or 'bf16' (mixed, as PyTorch's autocast does it).
        first_step_s: with what is made at the start [s].
        first_losses: of the steps before the measured ones.
        frames_per_s: in each round, which all ways of a network take by turns.
    """

    network: str
    way: str
    threads: int
    width: int
    height: int
    batch: int
    precision: str
    first_step_s: float
    first_losses: list[float]
    frames_per_s: list[float]


def make_step(
    network_name: str, way: str, images: torch.Tensor, labels: torch.Tensor, precision: str
) -> Step:
    """Prepare one of the ways.

    Args:
        network_name: of the registry.
        way: one of `OWN`, `OURS`, `COMPILED`.
        images: float32 (N, 3, H, W), channels last.
        labels: int64 (N, H, W).
        precision: 'fp32' or 'bf16'.
    """
    torch.manual_seed(SEED)
    network: nn.Module = build_network(network_name, CLASSES)
    # torch's stubs lack the one-argument form.
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    weights = torch.linspace(0.5, 2.0, CLASSES)
    ours = SegmentationLoss(Loss(dice=1.0), weights.numpy())
    if way != OWN:
        suit_cpu(network)
    if way == COMPILED:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network(images)
        logits = logits.float()
        # torch's stubs lack the types of `backward`.
        loss: Any
        if way == OWN:
            loss = F.cross_entropy(logits, labels, weights) + dice_loss(logits.softmax(1), labels)
        else:
            loss = ours(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def measure(
    network: str,
    ways: list[tuple[str, int]],
    size: tuple[int, int],
    batch: int,
    rounds: int,
    precision: str,
) -> list[Row]:
    """Train a network in several ways by turns, on noise: what it costs does not depend on the picture.

    Args:
        network: its name.
        ways: each with its number of threads.
        size: of the crops: width and height [px].
        batch: frames in a step.
        rounds: in which each way takes `STEPS` steps.
        precision: 'fp32' or 'bf16'.
    """
    width, height = size
    drawn = np.random.default_rng(SEED)
    images = torch.from_numpy(drawn.random((batch, 3, height, width), np.float32))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(drawn.integers(0, CLASSES, (batch, height, width)))
    steps, first = {}, {}
    for way in ways:
        torch.set_num_threads(way[1])
        steps[way] = make_step(network, way[0], images, labels, precision)
        began = time.monotonic()
        first[way] = [steps[way]()], time.monotonic() - began
        first[way][0].append(steps[way]())
    rates: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in steps.items():
            torch.set_num_threads(way[1])
            began = time.monotonic()
            for _ in range(STEPS):
                step()
            rates[way].append(STEPS * batch / (time.monotonic() - began))
    return [
        Row(network, *way, width, height, batch, precision, first[way][1], first[way][0], rates[way])
        for way in ways
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--networks", nargs="+", default=["enet", "lednet", "linknet"], help="names (default all three)"
    )
    parser.add_argument(
        "--compile", nargs="*", default=["enet"], help="networks that are compiled as well (default enet)"
    )
    number = at_least(1, int)
    parser.add_argument(
        "--size", default="352x264", metavar="WIDTHxHEIGHT", help="of crops (default 352x264)"
    )
    parser.add_argument("--batch", type=number, default=8, help="frames a step (default 8)")
    parser.add_argument("--rounds", type=number, default=5, help="in which the ways take turns (default 5)")
    parser.add_argument(
        "--threads",
        type=number,
        nargs="+",
        help="of PyTorch; `rt_seg train` is measured with each, the others with the first (default: its own"
        " choice)",
    )
    parser.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32", help="of the steps (default fp32)"
    )
    add_out(parser)


def main(arguments: argparse.Namespace) -> None:
    """Measure each network; writes training.json and training.md."""
    threads = arguments.threads or [torch.get_num_threads()]
    rows, size = [], parse_size(arguments.size)
    for network in arguments.networks:
        ways = [(OWN, threads[0]), *((OURS, number) for number in threads)]
        if network in arguments.compile:
            ways.append((COMPILED, threads[0]))
        for row in measure(network, ways, size, arguments.batch, arguments.rounds, arguments.precision):
            rows.append(row)
            rate = statistics.median(row.frames_per_s)
            say(f"{row.network}, {row.way}, {row.threads} threads: {rate:.2f} frames per second")
    write_result(arguments.out, "training", rows, to_markdown)


def to_markdown(result: Result[Row]) -> str:
    """The rates as a table; times as fast is the median of the rounds' ratios."""
    lines = [
        *page_head("Training on the CPU", result),
        "Steps of the network alone, without the loader; weighted cross-entropy and Dice, AdamW.",
        "",
        f"| {' | '.join(_HEADS)} |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result.rows:
        own = _own(result, row)
        gains = sorted(mine / theirs for mine, theirs in zip(row.frames_per_s, own.frames_per_s))
        gained = "" if row is own else f"{statistics.median(gains):.2f}"
        spread = "" if row is own else f"{gains[0]:.2f} to {gains[-1]:.2f}"
        crops = f"{row.width}x{row.height}, {row.batch}, {row.precision}"
        lines.append(
            f"| {row.network} | {crops} | {row.threads} | {row.way}"
            f" | {statistics.median(row.frames_per_s):.2f} | {gained} | {spread} | {row.first_step_s:.1f} |"
        )
    apart = max(
        abs(mine / theirs - 1)
        for row in result.rows
        for mine, theirs in zip(row.first_losses, _own(result, row).first_losses)
    )
    lines += [
        "",
        f"The losses of the first two steps differ by at most {apart:.1g} of their value between the ways.",
    ]
    return "\n".join(lines) + "\n"


def _own(result: Result[Row], row: Row) -> Row:
    """PyTorch's own way of the same network."""
    return next(other for other in result.rows if (other.network, other.way) == (row.network, OWN))


if __name__ == "__main__":
    run_tool(__doc__, add_arguments, main)
