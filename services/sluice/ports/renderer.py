"""Rendering templates."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from sluice.domain.content import Rendered
from sluice.domain.reference import Template, TemplateContent


class TemplateProblem(msgspec.Struct, frozen=True):
    """Something wrong with a template, found before any mail is made of it.

    ``part`` is ``subject``, ``html`` or ``text``; ``line`` counts from 1, None when it concerns the whole.
    """

    locale: str
    part: str
    reason: str
    line: int | None = None


class Renderer(Protocol):
    """Turns templates and variables into the words of a mail, within bounds of time and size."""

    def render(self, template: Template, content: TemplateContent, variables: Mapping[str, Any]) -> Rendered:
        """Render one locale's ``content`` of ``template``; a missing text part is made from the HTML.

        Raises :class:`~sluice.domain.errors.Refused`: category ``template`` for what is missing, wrong or too much,
        ``injection`` for a subject that holds control characters. Never raises anything else for what a template does.
        """
        ...

    def check(self, template: Template) -> list[TemplateProblem]:
        """What is wrong with a template, in every locale and part; empty when it can be used."""
        ...

    def undeclared(self, template: Template) -> set[str]:
        """Names of variables that the template uses and that have no default in it: what an event must bring."""
        ...
