"""The Jinja2 environment: Jinja2's immutable sandbox, plus bounds on time and size."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, cast

from jinja2 import StrictUndefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

from sluice.adapters.jinja import guards
from sluice.adapters.jinja.budget import Budget
from sluice.adapters.jinja.filters import CONCAT, LOOP, guarded_filters
from sluice.adapters.jinja.written import escaped, plain

_builtin_methods = (types.BuiltinMethodType, types.MethodType)
_DICT_NAMES = frozenset(dir(dict))


class _Writing(CodeGenerator):
    """Has values written out by the environment's two functions, which do in one call what would take three."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:
        if frame.eval_ctx.volatile:
            self.write("(environment.escaped if context.eval_ctx.autoescape else environment.plain)(")
        else:
            self.write("environment.escaped(" if frame.eval_ctx.autoescape else "environment.plain(")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Compiles templates whose loops, calls, filters and operators all count against ``budget``.

    No loader: a template stands alone. Nothing that differs from one rendering to the next (``random``, ``lipsum``).
    """

    intercepted_binops = frozenset(guards.BINARY)
    code_generator_class = _Writing

    def __init__(self, budget: Budget, *, autoescape: bool) -> None:
        super().__init__(
            autoescape=autoescape,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            cache_size=0,
        )
        self.escaped = escaped(budget)
        self.plain = plain(budget)
        self.budget = budget
        self.filters = guarded_filters(budget)
        del self.globals["lipsum"]
        # Jinja2 joins the buffers of macros and blocks with the environment's own function.
        self.concat = budget.concat  # type: ignore[method-assign]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Bounding().visit(super()._parse(source, name, filename))
        return template

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Data only: strings keep the methods that templates need, numbers and bytes have none."""
        if isinstance(obj, str):
            return attr in guards.STR_METHODS
        if isinstance(obj, (int, float, bytes)):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """As the sandbox's own, which for most of a mail's values comes to a key after a failed attribute."""
        if type(obj) is dict and attribute not in _DICT_NAMES:
            try:
                return obj[attribute]
            except KeyError:
                return self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The operators that can make something large out of something small."""
        self.budget.check()
        return guards.BINARY[operator](left, right, self.budget)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Calls of macros, functions and methods. The names leave ``self`` free as a keyword of the template's."""
        budget = __self.budget
        budget.check()
        for value in (*args, *kwargs.values()):
            budget.shown(value)
        if isinstance(__obj, _builtin_methods) and isinstance(__obj.__self__, str):
            guards.method(__obj.__name__, __obj.__self__, args, budget)
        return budget.value(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` with the sandbox's attribute rules and a bound on widths."""
        if not isinstance(value, _builtin_methods) or value.__name__ != "format" or not isinstance(value.__self__, str):
            return None
        text = value.__self__
        formatter = _EscapeFormatter(self, escape=text.escape) if isinstance(text, Markup) else _Formatter(self)

        def formatted(*args: Any, **kwargs: Any) -> str:
            return type(text)(formatter.vformat(text, args, kwargs))

        return formatted


class _NarrowFields:
    def format_field(self, value: Any, format_spec: str) -> Any:
        guards.narrow(format_spec.replace("*", ""))
        return super().format_field(value, format_spec)  # type: ignore[misc]


class _Formatter(_NarrowFields, SandboxedFormatter):
    pass


class _EscapeFormatter(_NarrowFields, SandboxedEscapeFormatter):
    pass


class _Bounding(NodeTransformer):
    """Sends what loops run over, and what ``~`` joins, through the guards."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802 - the visitor's naming
        self.generic_visit(node)
        node.iter = _filtered(node.iter, LOOP)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - the visitor's naming
        self.generic_visit(node)
        return _filtered(nodes.Tuple(node.nodes, "load", lineno=node.lineno), CONCAT)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno)
