"""A small SVG writer: panels one above the other over the same seconds, phases shaded. For light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import msgspec

WIDTH = 960
LEFT, RIGHT = 66, 22
GAP = 56
HEAD = 104
"""Above the first panel: the title and two rows of phase names."""
STYLE = """
svg { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 12px; }
.page { fill: #ffffff; } .ink { fill: #1f2328; } .soft { fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; } .axis { stroke: #57606a; stroke-width: 1; }
.border { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 2 3; }
.shade { fill: #57606a; opacity: 0.10; } .title { font-size: 15px; font-weight: 600; }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; } .ink { fill: #e6edf3; } .soft { fill: #9aa4af; }
.grid { stroke: #30363d; } .axis { stroke: #9aa4af; } .shade { fill: #9aa4af; opacity: 0.16; }
}
"""
Point = tuple[float, float]


class Line(msgspec.Struct, frozen=True):
    """Points joined straight, or as a step that holds until the next one."""

    name: str
    colour: str
    points: Sequence[Point]
    step: bool = False
    width: float = 1.8


class Bars(msgspec.Struct, frozen=True):
    """Values by second; several in a panel are stacked in their order."""

    name: str
    colour: str
    values: dict[int, float]


class Strips(msgspec.Struct, frozen=True):
    """Stretches of time, marked along the bottom of a panel."""

    name: str
    colour: str
    spans: Sequence[Point]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """``unit`` is the title of its upright axis, which begins at 0."""

    title: str
    unit: str
    height: int = 150
    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    strips: Sequence[Strips] = ()


class Phase(msgspec.Struct, frozen=True):
    """A named stretch of the time axis."""

    name: str
    begins: float
    ends: float
    shaded: bool


def timeline(title: str, seconds: float, phases: Sequence[Phase], panels: Sequence[Panel]) -> str:
    """The picture, from second 0 to ``seconds``."""
    return _Timeline(seconds).draw(title, phases, panels)


class _Timeline:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._out: list[str] = []

    def draw(self, title: str, phases: Sequence[Phase], panels: Sequence[Panel]) -> str:
        height = HEAD + sum(panel.height + GAP for panel in panels) + 4
        self._out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title><style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        ]
        self._text(LEFT, 24, title, "ink title")
        top = HEAD
        for panel in panels:
            self._panel(panel, phases, top)
            top += panel.height + GAP
        self._phase_names(phases)
        self._text((LEFT + WIDTH - RIGHT) / 2, height - 10, "seconds since the session began", "soft", "middle")
        return "\n".join([*self._out, "</svg>", ""])

    def _x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(second, 0.0), self._seconds) / self._seconds

    def _phase_names(self, phases: Sequence[Phase]) -> None:
        for number, phase in enumerate(phases):
            middle = (self._x(phase.begins) + self._x(phase.ends)) / 2
            self._text(middle, 48 if number % 2 else 64, phase.name, "ink" if phase.shaded else "soft", "middle")

    def _panel(self, panel: Panel, phases: Sequence[Phase], top: float) -> None:
        bottom = top + panel.height
        highest, step = _scale(_highest(panel), 5 if panel.height > 170 else 4)
        for phase in phases:
            if phase.shaded:
                left, right = self._x(phase.begins), self._x(phase.ends)
                self._rect(left, top, right - left, panel.height, 'class="shade"')
        for phase in phases[1:]:
            self._rule(self._x(phase.begins), top, self._x(phase.begins), bottom, "border")
        for count in range(round(highest / step) + 1):
            y = bottom - panel.height * count * step / highest
            self._rule(LEFT, y, WIDTH - RIGHT, y, "grid" if count else "axis")
            self._text(LEFT - 8, y + 4, f"{count * step:,g}", "soft", "end")
        every = 30 if self._seconds > 150 else 10
        for second in range(0, int(self._seconds) + 1, every):
            self._rule(self._x(second), bottom, self._x(second), bottom + 4, "axis")
            self._text(self._x(second), bottom + 17, str(second), "soft", "middle")
        self._text(16, (top + bottom) / 2, panel.unit, "soft", "middle", turned=True)
        self._legend(panel, top - 9)
        self._stack(panel.bars, bottom, panel.height / highest)
        for strips in panel.strips:
            for begins, ends in strips.spans:
                left, right = self._x(begins), self._x(ends)
                self._rect(left, bottom - 6, max(1.0, right - left), 6, f'fill="{strips.colour}"')
        for line in panel.lines:
            self._line(line, bottom, panel.height / highest)

    def _stack(self, bars: Iterable[Bars], bottom: float, scale: float) -> None:
        below: dict[int, float] = {}
        for each in bars:
            for second, value in sorted(each.values.items()):
                if 0 <= second < self._seconds:
                    base = below.get(second, 0.0)
                    below[second] = base + value
                    left, right = self._x(second), self._x(second + 1)
                    self._rect(
                        left, bottom - (base + value) * scale, right - left, value * scale, f'fill="{each.colour}"'
                    )

    def _line(self, line: Line, bottom: float, scale: float) -> None:
        drawn: list[str] = []
        last = None
        for second, value in line.points:
            x, y = self._x(second), bottom - value * scale
            if line.step and last is not None:
                drawn.append(f"{x:.1f},{last:.1f}")
            drawn.append(f"{x:.1f},{y:.1f}")
            last = y
        self._out.append(
            f'<polyline points="{" ".join(drawn)}" fill="none" stroke="{line.colour}" stroke-width="{line.width}" '
            'stroke-linejoin="round"/>'
        )

    def _legend(self, panel: Panel, y: float) -> None:
        self._text(LEFT, y, panel.title, "ink")
        x = float(WIDTH - RIGHT)
        shown: list[Line | Bars | Strips] = [*panel.lines, *panel.bars, *panel.strips]
        for each in reversed(shown):
            x -= 6.6 * len(each.name)
            self._text(x, y, each.name, "ink")
            x -= 16
            self._rect(x, y - 9, 11, 4 if isinstance(each, Line) else 10, f'fill="{each.colour}"')
            x -= 14

    def _text(self, x: float, y: float, text: str, name: str, anchor: str = "start", *, turned: bool = False) -> None:
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        self._out.append(
            f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'
        )

    def _rect(self, x: float, y: float, width: float, height: float, look: str) -> None:
        self._out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {look}/>')

    def _rule(self, x1: float, y1: float, x2: float, y2: float, name: str) -> None:
        self._out.append(f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


def _highest(panel: Panel) -> float:
    stacked: dict[int, float] = {}
    for bars in panel.bars:
        for second, value in bars.values.items():
            stacked[second] = stacked.get(second, 0.0) + value
    return max([1e-9, *stacked.values(), *(value for line in panel.lines for _, value in line.points)])


def _scale(highest: float, steps: int) -> tuple[float, float]:
    """A round upper end, and the distance of grid lines."""
    rough = highest / steps
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    return math.ceil(highest / step - 1e-9) * step, step
