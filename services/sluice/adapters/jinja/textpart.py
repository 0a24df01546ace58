"""A text template made from an HTML template, once per template instead of once per mail.

The template's tags are replaced by marks that no HTML means anything by, the HTML is read out as text, and the tags are
put back. What loses or changes a tag's meaning on the way is left to the slower way: reading out each rendered mail.
"""

from __future__ import annotations

import re

from sluice.domain.plaintext import read_out

_tag = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_mark = re.compile("\ue000([0-9]+)\ue001")
# Values that are HTML themselves, or are escaped by hand, would show their markup in a text part.
_markup = re.compile(
    r"\|\s*(?:safe|e|escape|forceescape|xmlattr|urlize|tojson|striptags)\b|autoescape|\braw\b|\bMarkup\b"
)
_syntax = re.compile(r"\{\{|\{%|\{#|[%}#]\}")


def text_source(html: str) -> str | None:
    """Jinja2 source of a text part for the HTML template ``html``; None when it has to be made from each mail."""
    if "\ue000" in html or "\ue001" in html or _markup.search(html):
        return None
    tags: list[str] = []

    def mark(match: re.Match[str]) -> str:
        if match[0].startswith("{#"):
            return ""
        tags.append(match[0])
        return f"\ue000{len(tags) - 1}\ue001"

    text = read_out(_tag.sub(mark, html))
    if _syntax.search(text):
        return None
    kept = [int(match[1]) for match in _mark.finditer(text)]
    # A statement that stood in a style or an attribute is gone, and what it opened or closed may not be.
    statements = [number for number, tag in enumerate(tags) if tag.startswith("{%")]
    if any(kept.count(number) != 1 for number in statements):
        return None
    return _mark.sub(lambda match: tags[int(match[1])], text)
