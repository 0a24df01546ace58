"""What a command shows in a terminal, as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import MONOKAI

_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: arial; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix" xml:space="preserve">
    {matrix}
    </g>
    </g>
</svg>
"""
"""As rich's own, without fonts that a browser would have to fetch."""


def draw(command: str, shown: Any, path: Path, width: int = 130) -> None:
    """Write what ``command`` shows as an SVG; raises :class:`ValueError` when an address is in it."""
    screen = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False)
    screen.print(f"$ {command}", markup=False)
    screen.print(shown)
    if "@" in screen.export_text(clear=False):
        raise ValueError(f"an address is in the picture of {command}")
    svg = screen.export_svg(title="", theme=MONOKAI, code_format=_FORMAT, unique_id=f"terminal-{path.stem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")
