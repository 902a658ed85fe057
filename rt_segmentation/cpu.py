"""What arithmetic this machine's CPU has."""

from __future__ import annotations

import os
import time
from pathlib import Path

# The names that Linux gives to bfloat16 arithmetic, on x86 and on Arm. Libraries that offer it elsewhere
# emulate it, which is slower than float32.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


# Of those that Linux names: what networks' kernels are written for.
_ARITHMETIC = ("avx", "amx", "fma", "f16c", "sve", "asimd", "i8mm", *_BF16_FLAGS)


def has_bf16() -> bool:
    """Whether the CPU computes in bfloat16; False where Linux does not say so."""
    return bool(_words() & _BF16_FLAGS)


def kind() -> str:
    """The kind of CPU, as far as choices of kernels differ by it.

    Returns:
        'amx_int8' where it multiplies matrices of int8; 'avx512_vnni' where it multiplies vectors of int8 and
        has no arithmetic in bfloat16; 'avx2' where its vectors have 256 bits and none of that; '' elsewhere,
        and where Linux does not say.
    """
    words = _words()
    if "amx_int8" in words:
        return "amx_int8"
    if "avx512_vnni" in words:
        return "" if words & _BF16_FLAGS else "avx512_vnni"
    return "avx2" if "avx2" in words and not words & {"avx512f", "avx_vnni"} else ""


_INT8_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def int8_sums_overflow(isa: str = "") -> bool:
    """Whether two products of bytes are added in 16 bits, as x86 does without VNNI: their sum may not fit.

    Args:
        isa: oneDNN's limit of instruction sets (ONEDNN_MAX_CPU_ISA), '' for none.
    """
    words = _words()
    allowed = _INT8_PRODUCTS
    if isa.upper() in ("SSE41", "AVX", "AVX2", "AVX512_CORE"):
        allowed = set()
    elif isa.upper().startswith("AVX2_VNNI"):
        allowed = {"avx_vnni"}
    return "ssse3" in words and not words & allowed


def instruction_sets() -> tuple[str, ...]:
    """Limits of oneDNN's instruction sets below what the CPU has, by oneDNN's names."""
    words = _words()
    with_amx = ("AVX512_CORE_BF16", "AVX512_CORE_VNNI") if words & {"amx_int8", "amx_bf16"} else ()
    return (*with_amx, "AVX2") if "avx512f" in words else ()


def arithmetic() -> tuple[str, ...]:
    """The CPU's arithmetic, by Linux's names: virtual machines give one name to several processors."""
    return tuple(sorted(word for word in _words() if word.startswith(_ARITHMETIC)))


class Others:
    """What others take of the processor cores that this process may use, from its making on.

    Processes that this one started are not others, as soon as they have ended.
    """

    def __init__(self) -> None:
        self._began = _times()

    def share(self) -> float:
        """0 where they are idle, 1 where this process had nothing; 0 where the system does not say."""
        now = _times()
        if self._began is None or now is None:
            return 0.0
        passed, busy, own = (after - before for before, after in zip(self._began, now))
        return min(1.0, max(0.0, (busy - own) / passed)) if passed > 0 else 0.0


STAT = Path("/proc/stat")


def _times() -> tuple[float, float, float] | None:
    """Time that passed on the cores, that somebody computed, and that we and our children did [s]."""
    try:
        lines = STAT.read_text(encoding="utf-8").splitlines()
        names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; see proc_stat(5).
    cores = [[int(word) for word in rest] for name, *rest in map(str.split, lines) if name in names]
    if not cores:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    passed = sum(sum(core[:8]) for core in cores) / tick
    ours = time.process_time() + os.times().children_user + os.times().children_system
    return passed, passed - sum(sum(core[3:5]) for core in cores) / tick, ours


def _words() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()
