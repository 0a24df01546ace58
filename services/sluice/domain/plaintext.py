"""HTML read out as plain text, for the mails that come without a text part.

One pass in linear time over input that may be hostile; a mail's HTML is simple, so is this. Libraries for it are either
under the GPL or build a tree.
"""

from __future__ import annotations

import re
from html import unescape

SOFT = "\x0b"
"""A line break if there is none beside it."""

_tag_name = re.compile(r"/?[a-zA-Z][a-zA-Z0-9]*")
_href = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)
_space = re.compile(r"[ \t\r\n\f]+")
_breaks = re.compile(r" ?[\n\x0b][ \n\x0b]*")
_space_runs = re.compile(r" {2,}")

_silent = frozenset(("head", "script", "style", "title", "template", "noscript", "svg"))
_paragraph = frozenset(
    (
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "dl",
        "table",
        "blockquote",
        "section",
        "article",
        "header",
        "footer",
        "main",
        "nav",
        "form",
        "pre",
        "hr",
    )
)
_line = frozenset(("br", "div", "tr", "li", "dt", "dd", "address", "center", "figure", "figcaption", "option"))
_cell = frozenset(("td", "th"))


def plain_text(html: str) -> str:
    """The text of an HTML document: blocks on lines of their own, ``-`` before list items, links as ``text (url)``.

    Never raises; what is not HTML comes out as the text it is. Ends with one newline, or is empty.
    """
    return tidy(read_out(html))


def read_out(html: str) -> str:
    """The text before :func:`tidy`, which may still be a template; :data:`SOFT` stands where a block begins or ends."""
    out: list[str] = []
    link: list[tuple[str, int]] = []
    silent: str | None = None
    comment = False
    first, *segments = html.split("<")
    out.append(_words(first))
    for segment in segments:
        if comment:
            _, closed, text = segment.partition("-->")
            comment = not closed
            if not comment:
                out.append(_words(text))
            continue
        if segment.startswith("!--"):
            _, closed, text = segment[3:].partition("-->")
            comment = not closed
            out.append(_words(text))
            continue
        tag, closed, text = segment.partition(">")
        match = _tag_name.match(tag)
        if not closed or not (match or tag[:1] in "!?"):
            if silent is None:
                out.append(_words("<" + segment))
            continue
        name = match[0].lower() if match else ""
        if silent is not None:
            # The end tag of head may be left out.
            if name not in ("/" + silent, "body"):
                continue
            silent = None
        elif name in _silent and not tag.endswith("/"):
            silent = name
            continue
        _mark(name, tag, out, link)
        out.append(_words(text))
    return "".join(out)


def _words(text: str) -> str:
    text = _space.sub(" ", text)
    return unescape(text).replace("\xa0", " ") if "&" in text else text


def _mark(name: str, tag: str, out: list[str], link: list[tuple[str, int]]) -> None:
    bare = name.lstrip("/")
    if bare in _paragraph:
        out.append("\n\n")
    elif bare in _line:
        out.append("\n" if bare == "br" else f"{SOFT}- " if name == "li" else SOFT)
    elif name in _cell:
        out.append(" ")
    elif name == "a":
        match = _href.search(tag)
        # Links do not nest; keeping one open at most also keeps this linear.
        link[:] = [(unescape(next(filter(None, match.groups()), "")) if match else "", len(out))]
    elif name == "/a" and link:
        url, start = link.pop()
        shown = "".join(out[start:]).strip()
        if url and not url.startswith("#") and url not in (shown, f"mailto:{shown}", f"tel:{shown}"):
            out.append(f" ({url})" if shown else url)


def tidy(text: str) -> str:
    """Plain text without runs of spaces, soft breaks and empty lines; ends with one newline, or is empty."""
    text = _breaks.sub(_break, _space_runs.sub(" ", text)).strip()
    return text + "\n" if text else ""


def _break(match: re.Match[str]) -> str:
    return "\n\n" if match[0].count("\n") > 1 else "\n"
