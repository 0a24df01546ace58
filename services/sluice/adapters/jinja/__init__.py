"""Jinja2 templates, sandboxed and bounded: a template can neither reach out nor run away."""

from sluice.adapters.jinja.renderer import JinjaRenderer

__all__ = ["JinjaRenderer"]
