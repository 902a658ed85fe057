"""What arithmetic this machine's CPU has."""

from __future__ import annotations

from pathlib import Path

# The names that Linux gives to bfloat16 arithmetic, on x86 and on Arm. Libraries that offer it elsewhere
# emulate it, which is slower than float32.
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def has_bf16() -> bool:
    """Whether the CPU computes in bfloat16; False where Linux does not say so."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return False
    return bool(words & _BF16_FLAGS)
