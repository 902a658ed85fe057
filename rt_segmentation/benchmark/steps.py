"""What can be set inside an engine, one step after the other, the most promising first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from rt_segmentation.benchmark.variants import Group, Variant
from rt_segmentation.inference.options import EVERY_LAYER, FLOAT, PLAIN, Options

Step = Callable[[Options], Options]
"""A change of what was best until then."""

AMX = "brgconv_avx512_amx"
FAMILIES = {
    "avx512f": ("jit_avx512", "brgconv_avx512"),
    "amx_int8": (AMX,),
    "avx_vnni": ("brgconv_avx2",),
}
"""OpenVINO's families of kernels for convolutions, by the arithmetic that they need."""

SMALL_SHARE = 0.02
"""Groups of layers below this share of the time are left alone."""


def kernel_families(arithmetic: Collection[str]) -> tuple[str, ...]:
    """OpenVINO's families of kernels for a CPU with arithmetic, by `cpu.arithmetic`'s names.

    Empty where it has one family alone, which computes all convolutions anyway.
    """
    found = [name for needed, names in FAMILIES.items() if needed in arithmetic for name in names]
    return (*found, "jit_avx2") if found else ()


def steps(
    plain: Variant,
    cores: int,
    instruction_sets: Sequence[str],
    families: Sequence[str],
    groups: Callable[[], list[Group]],
) -> Iterator[Step]:
    """Changes of how an engine is set.

    Args:
        plain: the engine as it chooses itself.
        cores: that this process may use.
        instruction_sets: other values of ONEDNN_MAX_CPU_ISA that are worth a try.
        families: of OpenVINO's kernels that this CPU can choose among.
        groups: of its convolutions, the longest first; asked when all else was tried.
    """
    if plain.engine == "openvino":
        if plain.precision == "int8":
            yield _with(bytes_between=True)
        yield _with(whole=True)
        if _heeds(plain, families):
            yield from (_with_kernel(EVERY_LAYER, family) for family in families)
        # Below it OpenVINO has no arithmetic in bf16: it is slow, or refuses the network.
        sets = [isa for isa in instruction_sets if plain.precision != "bf16" or "BF16" in isa]
        yield from (_with(isa=isa) for isa in sets)
    yield from (_with(threads=threads) for threads in _fewer(cores))
    if plain.engine == "openvino":
        yield from (_with(pinned=pinned) for pinned in (True, False))
        if _heeds(plain, families):
            yield from _of_groups(plain, families, groups())
    if plain.engine == "onnxruntime":
        yield _with(execution="parallel")
        yield _with(spinning=False)
        yield _with(denormals=False)
        yield from (_with(optimisation=level) for level in ("extended", "basic"))
    if plain.engine == "torch":
        yield _with(layout="contiguous")


def _heeds(plain: Variant, families: Sequence[str]) -> bool:
    """Whether OpenVINO 2026.4 computes by kernels that are wished for.

    In fp32, and in bf16 on a CPU with AMX, any wish makes it take none of its fast ones: 4 to 8, and 40 to 80
    times the time.
    """
    return plain.precision == "int8" or (plain.precision == "bf16" and AMX not in families)


def _of_groups(plain: Variant, families: Sequence[str], groups: Iterable[Group]) -> Iterator[Step]:
    for group in groups:
        if group.share >= SMALL_SHARE:
            floats = (FLOAT,) if plain.precision == "int8" else ()
            yield from (_with_kernel(group.name, family) for family in (*families, *floats))


def _with(**changed: object) -> Step:
    return lambda options: replace(options, **changed)  # type: ignore[arg-type]


def _with_kernel(group: str, family: str) -> Step:
    def set_kernel(options: Options) -> Options:
        others = tuple(pair for pair in options.kernels if pair[0] != group)
        return replace(options, kernels=(*others, (group, family)))

    return set_kernel


def change(before: Options, after: Options) -> str:
    """What a step changes, in words."""
    pairs: Iterable[tuple[str, str]] = (pair for pair in after.kernels if pair not in before.kernels)
    changed = {name: value for name, value in after.to_json().items() if value != before.to_json().get(name)}
    changed.pop("kernels", None)
    return replace(PLAIN, kernels=tuple(pairs), **changed).describe()


def _fewer(cores: int) -> list[int]:
    """Fewer threads than cores: by halves."""
    found = []
    while cores > 1:
        cores //= 2
        found.append(cores)
    return found


def numbers(cores: int) -> list[int]:
    """Concurrent batches: by doubles, and one for each core."""
    return sorted({*(2**power for power in range(1, 6) if 2**power <= cores), cores} - {1})
