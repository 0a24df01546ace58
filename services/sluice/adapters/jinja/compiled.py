"""Templates compiled and kept."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable

import msgspec
from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateSyntaxError

from sluice.adapters.jinja.environment import BoundedEnvironment
from sluice.adapters.jinja.textpart import text_source
from sluice.domain.reference import Template, TemplateContent

_line_break = re.compile(r"\s*[\r\n]\s*")


class Compiled(msgspec.Struct, frozen=True):
    """One locale of a template, ready to render. ``derived`` says that the text was made from the HTML's source."""

    subject: JinjaTemplate
    html: JinjaTemplate | None
    text: JinjaTemplate | None
    derived: bool = False


def compile_content(content: TemplateContent, escaping: BoundedEnvironment, plain: BoundedEnvironment) -> Compiled:
    """Compile one locale; raises what Jinja2 raises for what is not a template.

    A subject's line breaks are those of its author's editor, so they become spaces here: a line break in a rendered
    subject came from outside.
    """
    subject = plain.from_string(_line_break.sub(" ", content.subject.strip()))
    html = None if content.html is None else escaping.from_string(content.html)
    if content.text is not None or content.html is None:
        text = None if content.text is None else plain.from_string(content.text)
        return Compiled(subject, html, text)
    source = text_source(content.html)
    if source is None:
        return Compiled(subject, html, None)
    try:
        return Compiled(subject, html, plain.from_string(source), derived=True)
    except TemplateSyntaxError:
        return Compiled(subject, html, None)


MAX_SOURCE = 512 * 1024
"""Characters of a template part."""
MAX_TAGS = 5_000
"""Tags of a template part; with :data:`MAX_CODE` this bounds how long compiling takes, to a fraction of a second."""
MAX_CODE = 64 * 1024
"""Characters within the tags of a template part."""

_opening = re.compile(r"\{[{%]")
_closing = re.compile(r"[%}]\}")


def too_large(source: str) -> str | None:
    """Why a part is too large to compile, or None."""
    if len(source) > MAX_SOURCE:
        return f"is longer than {MAX_SOURCE:,} characters"
    tags = _opening.split(source)[1:]
    if len(tags) > MAX_TAGS:
        return f"has more than {MAX_TAGS:,} tags"
    if sum(len(_closing.split(tag, 1)[0]) for tag in tags) > MAX_CODE:
        return f"has more than {MAX_CODE:,} characters within tags"
    return None


_Key = tuple[str, str, int, TemplateContent]


class CompiledCache:
    """The ``size`` most recently used locales of templates, by tenant, template, version and what they say.

    ``build`` gives what it compiled, or in a sentence why it cannot be; that is kept too, as finding out takes as long.
    """

    def __init__(self, size: int, build: Callable[[TemplateContent], Compiled | str]) -> None:
        self._size = size
        self._build = build
        self._kept: OrderedDict[_Key, Compiled | str] = OrderedDict()

    def get(self, template: Template, content: TemplateContent) -> Compiled | str:
        """What ``build`` gives, built now if it is not kept."""
        # The content's strings keep their hashes, so this is cheap, and a changed template is never stale.
        key = (template.tenant_id, template.template_id, template.version, content)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._build(content)
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found
