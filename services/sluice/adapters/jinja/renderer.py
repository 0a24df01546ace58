"""The renderer: compiled templates in, the words of a mail out, or whose fault it is that there are none."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context

from sluice.adapters.jinja.budget import Budget, Exhausted
from sluice.adapters.jinja.compiled import Compiled, CompiledCache, compile_content, too_large
from sluice.adapters.jinja.environment import BoundedEnvironment
from sluice.domain.content import MAX_READ_OUT, Rendered
from sluice.domain.errors import Refused
from sluice.domain.headers import MAX_VALUE, check_text
from sluice.domain.plaintext import plain_text, tidy
from sluice.domain.reference import Template, TemplateContent
from sluice.ports.renderer import TemplateProblem

PARTS = ("subject", "html", "text")
_AT_ONCE = 64
"""Pieces of text that are written before time and size are looked at: each is bounded itself."""


class JinjaRenderer:
    """Sandboxed Jinja2, strict about missing variables. Implements :class:`sluice.ports.renderer.Renderer`.

    ``max_output`` is characters of a part, ``seconds`` the wall time of a whole mail, ``cache`` how many locales of
    templates stay compiled. One rendering at a time in a thread.
    """

    def __init__(self, *, max_output: int = 2 * 1024 * 1024, seconds: float = 0.25, cache: int = 512) -> None:
        self._budget = Budget()
        self._escaping = BoundedEnvironment(self._budget, autoescape=True)
        self._plain = BoundedEnvironment(self._budget, autoescape=False)
        self._cache = CompiledCache(cache, self._compile)
        self._max_output = max_output
        self._seconds = seconds

    def render(self, template: Template, content: TemplateContent, variables: Mapping[str, Any]) -> Rendered:
        """See :meth:`sluice.ports.renderer.Renderer.render`. A subject's runs of spaces become one."""
        compiled = self._cache.get(template, content)
        if isinstance(compiled, str):
            raise Refused("template.id", f"the template cannot be compiled: {compiled}", "template")
        names = {**self._plain.globals, **variables}
        self._budget.start(self._seconds, self._max_output)
        try:
            subject = self._run("subject", compiled.subject, names)
            html = None if compiled.html is None else self._run("html", compiled.html, names)
            text = None if compiled.text is None else self._run("text", compiled.text, names)
        finally:
            self._budget.stop()
        return Rendered(_subject(subject), html, _text(compiled, html, text))

    def check(self, template: Template) -> list[TemplateProblem]:
        """See :meth:`sluice.ports.renderer.Renderer.check`."""
        problems = []
        if template.default_locale.replace("_", "-").lower() not in {
            locale.replace("_", "-").lower() for locale in template.locales
        }:
            problems.append(TemplateProblem(template.default_locale, "subject", "the default locale has no content"))
        for locale, content in template.locales.items():
            if content.html is None and content.text is None:
                problems.append(TemplateProblem(locale, "html", "has neither html nor text"))
            for part in PARTS:
                source = getattr(content, part)
                problem = None if source is None else self._problem(locale, part, source)
                if problem:
                    problems.append(problem)
        return problems

    def undeclared(self, template: Template) -> set[str]:
        """See :meth:`sluice.ports.renderer.Renderer.undeclared`; parts that do not parse are passed over."""
        names: set[str] = set()
        for content in template.locales.values():
            for part in PARTS:
                source = getattr(content, part)
                if source is not None:
                    try:
                        names |= find_undeclared_variables(self._plain.parse(source))
                    except Exception:  # noqa: S112 - as compiling: constants are folded, and that may fail in any way
                        continue
        return names - template.defaults.keys() - self._plain.globals.keys()

    def _compile(self, content: TemplateContent) -> Compiled | str:
        for part in PARTS:
            problem = too_large(getattr(content, part) or "")
            if problem:
                return f"the {part} {problem}"
        try:
            return compile_content(content, self._escaping, self._plain)
        except Exception as error:  # Python's compiler can refuse as well, loops nested 20 deep for one
            return _kind(error)

    def _problem(self, locale: str, part: str, source: str) -> TemplateProblem | None:
        problem = too_large(source)
        if problem:
            return TemplateProblem(locale, part, problem)
        try:
            parsed = self._plain.parse(source)
            self._plain.compile(parsed)
            outside = next(parsed.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)), None)
        except TemplateSyntaxError as error:
            return TemplateProblem(locale, part, error.message or "not a template", error.lineno)
        except Exception as error:
            return TemplateProblem(locale, part, f"cannot be compiled ({type(error).__name__})")
        if outside is not None:
            return TemplateProblem(locale, part, "a template stands alone; it cannot include others", outside.lineno)
        return None

    def _run(self, part: str, compiled: JinjaTemplate, names: dict[str, Any]) -> str:
        pieces: list[str] = []
        size = 0
        try:
            # Jinja2's own way makes three copies of the names, which no template can change.
            context = Context(compiled.environment, names, compiled.name, compiled.blocks)
            written = iter(compiled.root_render_func(context))
            while some := list(islice(written, _AT_ONCE)):
                size += sum(map(len, some))
                pieces += some
                if size > self._max_output:
                    raise Exhausted(f"is longer than {self._max_output:,} characters")
                self._budget.check()
            # Here, because a filter block can give something else than text: {% filter sort %}.
            return "".join(pieces)
        except UndefinedError as error:
            raise Refused(
                "template.variables", f"{error.message} ({_where(part, compiled, error)})", "template"
            ) from error
        except Exception as error:
            raise Refused(
                f"template.{part}", f"{_kind(error)} ({_where(part, compiled, error)})", "template"
            ) from error


def _subject(text: str) -> str:
    subject = " ".join(filter(None, text.split(" ")))
    if len(subject) > MAX_VALUE:
        raise Refused("subject", f"is longer than {MAX_VALUE} characters when rendered", "template")
    check_text(subject, "subject")
    return subject


def _text(compiled: Compiled, html: str | None, text: str | None) -> str | None:
    if text is not None:
        return tidy(text) if compiled.derived else text
    return (plain_text(html) or None) if html is not None and len(html) <= MAX_READ_OUT else None


def _kind(error: Exception) -> str:
    # Jinja2's and our own messages speak of the template; those of Python's operations may quote a value.
    if isinstance(error, (Exhausted, SecurityError, TemplateSyntaxError)):
        return str(error).partition("\n")[0]
    return f"fails with {type(error).__name__}"


def _where(part: str, compiled: JinjaTemplate, error: Exception) -> str:
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is compiled.root_render_func.__globals__:
            line = compiled.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return part if line is None else f"{part}, line {line}"
