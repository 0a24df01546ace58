"""Which locale a mail is written in, and which values its template sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice.domain.errors import Refused
from sluice.domain.events import TemplateRef
from sluice.domain.reference import Profile, Template, TemplateContent, Tenant


def merge_variables(
    template: Template,
    tenant: Tenant,
    profile: Profile | None,
    asked: TemplateRef,
    recipient: Mapping[str, Any],
) -> dict[str, Any]:
    """The template's variables for one recipient, by name; a nested value replaces the one below it as a whole.

    From weakest to strongest: the template's defaults, the tenant's, the profile's, the event's
    (``template.variables``), the recipient's (``to[n].variables``). Whoever is nearer to the mail wins.
    """
    return {
        **template.defaults,
        **tenant.variables,
        **(profile.variables if profile else {}),
        **asked.variables,
        **recipient,
    }


def choose_locale(template: Template, *wanted: str | None) -> str:
    """The key of ``template.locales`` to use, given the locales wanted, most important first; None is skipped.

    Each is tried whole, then without its last subtag (``zh-Hant-TW``, ``zh-Hant``, ``zh``: RFC 4647 section 3.4)
    before the next one; then the template's default. Case does not matter, and ``_`` counts as ``-``.

    Raises :class:`Refused` (category ``template``) when not even the default locale has content.
    """
    known = {_normal(locale): locale for locale in template.locales}
    for want in wanted:
        tag = _normal(want) if want else ""
        while tag:
            if tag in known:
                return known[tag]
            tag = tag.rpartition("-")[0]
    default = known.get(_normal(template.default_locale))
    if default is None:
        raise Refused("template.id", "the template has no content for its default locale", "template")
    return default


def choose_content(template: Template, *wanted: str | None) -> TemplateContent:
    """The content of the locale that :func:`choose_locale` chooses."""
    return template.locales[choose_locale(template, *wanted)]


def _normal(locale: str) -> str:
    return locale.replace("_", "-").lower()
