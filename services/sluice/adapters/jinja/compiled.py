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


_Key = tuple[str, str, int, TemplateContent]


class CompiledCache:
    """The ``size`` most recently used locales of templates, by tenant, template, version and what they say."""

    def __init__(self, size: int, build: Callable[[TemplateContent], Compiled]) -> None:
        self._size = size
        self._build = build
        self._kept: OrderedDict[_Key, Compiled] = OrderedDict()

    def get(self, template: Template, content: TemplateContent) -> Compiled:
        """The compiled content, compiled now if it is not kept."""
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
