"""How an engine is set inside: what `rt_seg tune` tries, and what engines apply."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rt_segmentation.settings import read_settings

INSTRUCTIONS = "ONEDNN_MAX_CPU_ISA"
"""The environment's limit of oneDNN's instruction sets; a library reads it once, at its first compilation or
the first question after precisions."""

_EARLIER_NAME = "DNNL_MAX_CPU_ISA"

FLOAT = "float"
"""In the place of a family of kernels: computed in bf16 or fp32, where the others are in int8."""

EVERY_LAYER = "*"
"""In the place of a group of layers: all convolutions."""


def limits_instructions() -> bool:
    """Whether the environment says how far oneDNN may go, be it with an empty word: without a limit."""
    return INSTRUCTIONS in os.environ or _EARLIER_NAME in os.environ


def instruction_limit() -> str:
    """The environment's limit of oneDNN's instruction sets, '' for none; its older name is read second."""
    return os.environ.get(INSTRUCTIONS) or os.environ.get(_EARLIER_NAME, "")


@dataclass(frozen=True)
class Options:
    """What is not said is as the engine does it by itself.

    Attributes:
        threads: cores that one batch is computed on; 0 for all of them, shared by the concurrent batches.
        pinned: whether threads stay on their cores (OpenVINO); None as OpenVINO does by itself.
        isa: the highest instruction set that oneDNN may use, as ONEDNN_MAX_CPU_ISA says it; it is of a
            process (OpenVINO).
        kernels: pairs of a group of like convolutions, or `EVERY_LAYER`, and the family of kernels that
            computes it, as jit_avx512, or `FLOAT`; of two that fit a layer the later one counts (OpenVINO).
        bytes_between: whether maps are bytes as soon as they are made, also where layers cut, join, shuffle
            and add them (OpenVINO in int8).
        whole: whether maps stay in one piece whose halves are convolved apart, that are joined with a pooled
            image or interleaved before they are added: weights of zero in the place of layers that cut, join
            and shuffle (OpenVINO).
        execution: 'parallel' for branches of the graph side by side (ONNX Runtime).
        optimisation: 'basic' or 'extended' for less than all rewriting of the graph (ONNX Runtime).
        layout: 'contiguous' for channels first (torch).
        spinning: whether threads that wait keep their cores busy, so as to go on immediately (ONNX Runtime);
            None as it does by itself, which is True.
        denormals: False for 0 in the place of numbers too small for float32's full precision, which take some
            processors many times as long (ONNX Runtime).
    """

    threads: int = 0
    pinned: bool | None = None
    isa: str = ""
    kernels: tuple[tuple[str, str], ...] = ()
    bytes_between: bool = False
    whole: bool = False
    execution: str = ""
    optimisation: str = ""
    layout: str = ""
    spinning: bool | None = None
    denormals: bool = True

    def to_json(self) -> dict[str, Any]:
        """What differs from the default."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        different = {name: value for name, value in found.items() if value != getattr(PLAIN, name)}
        if self.kernels:
            different["kernels"] = [list(pair) for pair in self.kernels]
        return different

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Options:
        """The reverse of `to_json`.

        Raises:
            SettingsError: the content is something else.
        """
        return read_settings(cls, content)

    def describe(self) -> str:
        """In words, for messages."""
        several = "s" if self.threads > 1 else ""
        parts = [f"{self.threads} thread{several} for each frame"] if self.threads else []
        if self.pinned is not None:
            parts.append("threads pinned to cores" if self.pinned else "threads not pinned")
        parts += [f"instructions up to {self.isa}"] if self.isa else []
        parts += [
            f"{family} for " + ("every convolution" if group == EVERY_LAYER else f"convolutions {group}")
            for group, family in self.kernels
        ]
        parts += ["bytes between the convolutions"] if self.bytes_between else []
        parts += ["maps in one piece"] if self.whole else []
        parts += [f"{self.execution} execution"] if self.execution else []
        parts += [f"{self.optimisation} optimisation"] if self.optimisation else []
        parts += [f"{self.layout} layout"] if self.layout else []
        if self.spinning is not None:
            parts.append("threads that spin" if self.spinning else "threads that sleep while they wait")
        parts += [] if self.denormals else ["no denormal numbers"]
        return ", ".join(parts) or "the engine's own choice"


PLAIN = Options()
"""All as the engine does it by itself."""
