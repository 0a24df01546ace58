"""Templates that somebody made up to hurt: each is rendered or refused, in bounded time and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sluice.adapters.jinja.renderer import JinjaRenderer
from sluice.domain.errors import Refused
from sluice.domain.reference import Template, TemplateContent

hard = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
RENDERER = JinjaRenderer()
FILTERS = sorted(RENDERER._plain.filters)
TESTS = sorted(RENDERER._plain.tests)
MOST_CPU = 5.0
"""Seconds, of which a rendering may use a quarter of one: the rest is for a slow machine, and for compiling."""
VARIABLES: dict[str, Any] = {
    "name": "Ann", "n": 9, "big": 10**18, "items": [{"a": 1, "b": "x" * 50}] * 20, "nested": {"a": {"b": [1, 2, [3]]}},
    "long": "word " * 2000, "none": None, "yes": True, "evil": "{{ 7 * 7 }}<script>'\"&\r\nX: y",
}  # fmt: skip

atoms = st.sampled_from(
    ["name", "n", "big", "items", "nested", "long", "none", "evil", "missing", "1", "99999999", "0", "-1", "1.5",
     "''", "'a'",
     "'%s'", "'%999999d'", "'{:>999999}'", "'{0.__class__}'", "[]", "[1, 2]", "{}", "{'a': 1}", "range(99999)",
     "range(9)",
     "range(10**9)", "loop", "self", "caller()", "dict(a=1)", "cycler(1, 2)", "joiner()", "namespace(a=1)", "true"]
)  # fmt: skip
methods = st.sampled_from(
    [".join(items)", ".format(name)", ".replace('', long)", ".center(99999999)", ".split()", ".upper()", ".__class__",
     "[0]",
     "[::-1]", ".a.b", "['a']", ".zfill(10**8)", ".splitlines()", ".items()", ".encode()", ".next()", ".count('')"]
)  # fmt: skip
expressions = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format, inner, st.sampled_from(["*", "**", "+", "~", "%", "//", "-", "in", "<", "and"]), inner
        ),
        st.builds("{}|{}".format, inner, st.sampled_from(FILTERS)),
        st.builds("{}|{}({})".format, inner, st.sampled_from(FILTERS), inner),
        st.builds("({} is {})".format, inner, st.sampled_from(TESTS)),
        st.builds("({}){}".format, inner, methods),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
    ),
    max_leaves=8,
)
statements = st.recursive(
    st.one_of(
        st.builds("{{{{ {} }}}}".format, expressions), st.sampled_from(["text", "<p>", "&amp;", "{{", "{%", "{#", "#}"])
    ),
    lambda inner: st.one_of(
        st.builds("{{% for x in {} %}}{}{{% endfor %}}".format, expressions, inner),
        st.builds("{{% for x in {} recursive %}}{{{{ loop({}) }}}}{{% endfor %}}".format, expressions, expressions),
        st.builds("{{% if {} %}}{}{{% endif %}}".format, expressions, inner),
        st.builds("{{% set y = {} %}}{}".format, expressions, inner),
        st.builds("{{% set y %}}{}{{% endset %}}{{{{ y ~ y }}}}".format, inner),
        st.builds("{{% macro m(a=1) %}}{}{{{{ m(a) }}}}{{% endmacro %}}{{{{ m() }}}}".format, inner),
        st.builds("{{% filter {} %}}{}{{% endfilter %}}".format, st.sampled_from(FILTERS), inner),
        st.builds("{{% call(x) m() %}}{}{{% endcall %}}".format, inner),
        st.builds("{{% block b %}}{}{{% endblock %}}{{{{ self.b() }}}}".format, inner),
        st.builds("{}{}".format, inner, inner),
    ),
    max_leaves=6,
)


def template(**parts: str) -> Template:
    content = TemplateContent(**{"subject": "s", "text": "t", **parts})
    return Template(tenant_id="acme", template_id="t", version=1, locales={"en": content})


def render(one: Template) -> str:
    """Why it was refused, or an empty string."""
    began = time.process_time()
    try:
        rendered = RENDERER.render(one, one.locales["en"], VARIABLES)
    except Refused as error:
        refused = error
    else:
        assert "\n" not in rendered.subject
        assert "\r" not in rendered.subject
        return ""
    finally:
        assert time.process_time() - began < MOST_CPU
    assert refused.category in ("template", "injection", "size")
    assert len(refused.reason) < 1000
    return refused.reason


@hard
@given(statements, st.sampled_from(["subject", "text", "html"]))
@example("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "text")
@example("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "html")
@example("{{ range(10**9)|list }}", "text")
@example("{{ ['a' * 99999] * 99999 }}", "text")
@example("{{ long|replace('', long)|replace('', long) }}", "text")
@example("{{ '%999999999d' % 1 }}", "html")
@example(
    "{% set ns = namespace(x='a') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}", "text"
)
@example("{{" + "(" * 3000 + "1" + ")" * 3000 + "}}", "text")
@example("{% if 1 %}" * 2000 + "{% endif %}" * 2000, "text")
@example("{{ " + "not " * 20_000 + "1 }}", "html")
@example("{{ evil }}", "subject")
@example("{{ (name if (1).__class__ else name) }}", "subject")
@example("{% filter sort %}{{ name }}{% endfilter %}", "subject")
def test_a_template_is_rendered_or_refused_in_bounded_time(source: str, part: str) -> None:
    one = template(**{part: source})
    render(one)
    RENDERER.check(one)
    RENDERER.undeclared(one)


@hard
@given(
    st.text(alphabet="{}%#()[]|.,'\"ab1 \n\\-~*\x00ä\u2028", max_size=60), st.sampled_from(["subject", "text", "html"])
)
def test_any_text_is_a_template_or_refused(source: str, part: str) -> None:
    test_a_template_is_rendered_or_refused_in_bounded_time.hypothesis.inner_test(source, part)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
        "{% for a in range(10**12) %}{% endfor %}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_loop_without_end_is_stopped_and_the_refusal_says_why(source: str) -> None:
    assert render(template(text=source))


GREEDY = [
    "{{ 'a' * 10**9 }}",
    "{{ range(10**9)|list }}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% for i in range(99999) %}{{ long }}{% endfor %}",
    "{{ long|replace('', long) }}",
    "{{ (long ~ long)|batch(1)|list * 99999 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ items|map(attribute='b')|join(long) * 999 }}",
]
LIMITED = """
import resource, sys
from sluice.adapters.jinja.renderer import JinjaRenderer
from sluice.domain.errors import Refused
from sluice.domain.reference import Template, TemplateContent
content = TemplateContent("s", None, sys.argv[1])
one = Template(tenant_id="a", template_id="t", version=1, locales={"en": content})
renderer = JinjaRenderer()
renderer.render(one, TemplateContent("s", None, "warm {{ n }}"), {"n": 1})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    renderer.render(one, content, {"long": "word " * 2000, "items": [{"b": "x" * 50}] * 20})
except Refused as error:
    print("refused:", error.reason)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("source", GREEDY)
def test_no_template_takes_much_memory(source: str) -> None:
    """In a process of its own, whose memory can be seen. A gigabyte was asked for."""
    most = 2 << 30
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, source],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grown_kb = int(done.stdout.split()[-1])
    assert grown_kb < 150 * 1024, done.stdout
