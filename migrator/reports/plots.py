"""Lines over time, as the pages draw them: points in per cent of the picture, and labels for its axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MOST_POINTS = 600


@dataclass(frozen=True, kw_only=True)
class Line:
    name: str
    points: str  # of an SVG polyline in a field of 100 by 100: steps, since what was seen holds until the next look
    highest: float


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Several series over the same seconds, from 0 to `top` each."""

    lines: tuple[Line, ...]
    from_s: float
    to_s: float
    top: float

    @classmethod
    def of(cls, at_s: Sequence[float], series: Mapping[str, Sequence[float]]) -> Plot:
        """`at_s` rises, and every series has as many values; where there are too many, each keeps its peaks."""
        from_s, to_s = at_s[0], max(at_s[-1], at_s[0] + 0.001)
        top = nice(max((max(values) for values in series.values()), default=0.0))
        lines = []
        for name, values in series.items():
            points = thinned(list(zip(at_s, values, strict=True)))
            drawn = _stairs([(100 * (at - from_s) / (to_s - from_s), 100 - 100 * value / top) for at, value in points])
            lines.append(Line(name=name, points=drawn, highest=max(values)))
        return cls(lines=tuple(lines), from_s=from_s, to_s=to_s, top=top)


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 600 points, the highest of each stretch."""
    width = math.ceil(len(points) / _MOST_POINTS)
    if width <= 1:
        return points
    return [max(points[i : i + width], key=lambda point: point[1]) for i in range(0, len(points), width)]


def nice(value: float) -> float:
    """The round number at or above, at least 1."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value)


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    drawn: list[str] = []
    before = points[0][1] if points else 0.0
    for x, y in points:
        drawn += [f"{x:.2f},{before:.2f}", f"{x:.2f},{y:.2f}"]
        before = y
    return " ".join(drawn)
