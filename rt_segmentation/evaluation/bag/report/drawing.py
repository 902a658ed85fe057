"""Inline SVG without text: a drawing stretches to the page's width, and its axes are HTML around it.

So letters have the size of the page's letters on a phone, too. All drawings are WIDTH x HEIGHT units large
and are stretched (`preserveAspectRatio="none"`); the style sheet keeps lines thin (`vector-effect`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1000.0, 100.0
STEPS = (1, 2, 5)
MOST_TICKS = 6


@dataclass(frozen=True)
class Tick:
    """A mark on an axis.

    Attributes:
        at: share of the axis' length, 0 to 1.
        text: what stands there.
    """

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A drawing and its axes.

    Attributes:
        label: a description for screen readers.
        svg: elements inside the svg element; their texts are escaped.
        x, y: ticks.
        unit_x, unit_y: what the axes count.
    """

    label: str
    svg: str
    x: list[Tick]
    y: list[Tick]
    unit_x: str
    unit_y: str


def bar(css_class: str, left: float, right: float, height: float, title: str = "", base: float = 0.0) -> str:
    """A rectangle that stands `base` units above the bottom, with a text for pointers that rest on it."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    top = HEIGHT - base - height
    return (
        f'<rect class="{css_class}" x="{left:.1f}" y="{top:.1f}"'
        f' width="{right - left:.1f}" height="{height:.1f}">{inside}</rect>'
    )


def vertical(css_class: str, x: float) -> str:
    """A line from bottom to top."""
    return f'<path class="{css_class}" d="M{x:.1f} 0V{HEIGHT:g}"/>'


def linear_ticks(end: float, most: int = MOST_TICKS) -> list[Tick]:
    """Round numbers from 0 to `end`, at most `most` above 0."""
    return [Tick(value / end, f"{value:,g}") for value in round_numbers(end, most)]


def round_numbers(end: float, most: int = MOST_TICKS) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from 0 to `end`, at most `most` above 0."""
    power = 10.0 ** math.floor(math.log10(end / most))
    step = next(power * factor for factor in (*STEPS, 10) if end / (power * factor) <= most)
    return [round(k * step, 12) for k in range(math.floor(end / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between `low` and `high`, or other round numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = STEPS if len(powers) <= MOST_TICKS // 2 else STEPS[:1]
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    return ticks if len(ticks) > 2 else [value for value in round_numbers(high, 10) if value >= low]
