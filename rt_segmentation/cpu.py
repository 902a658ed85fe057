"""What arithmetic this machine's CPU has."""

from __future__ import annotations

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
        has no arithmetic in bfloat16; '' elsewhere, and where Linux does not say.
    """
    words = _words()
    if "amx_int8" in words:
        return "amx_int8"
    return "avx512_vnni" if "avx512_vnni" in words and not words & _BF16_FLAGS else ""


def instruction_sets() -> tuple[str, ...]:
    """Limits of oneDNN's instruction sets below what the CPU has, by oneDNN's names."""
    words = _words()
    with_amx = ("AVX512_CORE_BF16", "AVX512_CORE_VNNI") if words & {"amx_int8", "amx_bf16"} else ()
    return (*with_amx, "AVX2") if "avx512f" in words else ()


def arithmetic() -> tuple[str, ...]:
    """The CPU's arithmetic, by Linux's names: virtual machines give one name to several processors."""
    return tuple(sorted(word for word in _words() if word.startswith(_ARITHMETIC)))


def _words() -> set[str]:
    try:
        return set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return set()
