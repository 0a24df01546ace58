"""Reference data as it stands in the compacted ``ref.*`` topics: tenants, templates, profiles, suppressions."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from sluice.domain.events import EmailAddress, HeaderText, Identifier, InDoubtPolicy, Mailbox, Moment, Unsubscribe

RateText = Annotated[
    str, Meta(pattern=r"^[1-9][0-9]{0,8}/(s|sec|second|m|min|minute|h|hour|d|day)(,burst=[1-9][0-9]{0,8})?\Z")
]
"""A rate, such as ``100/s`` or ``5000/h,burst=50``: see :meth:`sluice.domain.shaping.Rate.parse`."""


class SigningKey(msgspec.Struct, frozen=True):
    """Names a DKIM key: its public half is published at ``selector._domainkey.domain``.

    The private half is the file ``domain/selector.pem`` below the configured key folder, never in Kafka.
    """

    domain: str
    selector: str


class Tenant(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Who sends. ``domains`` are those it may use in ``from``; variables are the lowest layer of a template's."""

    tenant_id: Identifier
    domains: list[str]
    name: str = ""
    from_: Mailbox | None = None
    return_path: EmailAddress | None = None
    locale: str = "en"
    variables: dict[str, Any] = {}
    signing: list[SigningKey] = []
    unsubscribe: Unsubscribe | None = None
    in_doubt: InDoubtPolicy = "resend"
    active: bool = True
    rate: RateText | None = None
    """Most mails of the tenant per time, over all sites and workers: ``100/s``, ``5000/h,burst=50``."""
    campaign_rate: RateText | None = None
    """The same for each of its campaigns (``campaign_id``)."""
    egress: Identifier | None = None
    """The egress, or pool of them, that its mails leave from."""
    tls_reports: bool = False
    """Whether it sends the reports of SMTP TLS reporting, mails that no failure of TLS holds back."""


class TemplateContent(msgspec.Struct, frozen=True):
    """What is rendered for one locale; each part is Jinja2 source."""

    subject: HeaderText
    html: str | None = None
    text: str | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a template, by locale (BCP 47, ``zh-CN``); falls back to the language, then the default."""

    tenant_id: Identifier
    template_id: Identifier
    version: Annotated[int, Meta(ge=1)]
    default_locale: str = "en"
    locales: dict[str, TemplateContent]
    defaults: dict[str, Any] = {}
    """Variables used where none is given; any other missing variable rejects the event."""


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant keeps of a recipient: variables, locale, time zone."""

    tenant_id: Identifier
    email: EmailAddress
    locale: str | None = None
    timezone: str | None = None
    variables: dict[str, Any] = {}


class Suppression(msgspec.Struct, frozen=True, kw_only=True):
    """An address that a tenant must not mail. ``stream`` None means every stream; expired ones no longer count."""

    tenant_id: Identifier
    email: EmailAddress
    reason: str
    created_at: Moment
    stream: str | None = None
    expires_at: Moment | None = None


class SiteControl(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's word on a site, in ``ref.sites`` under the site's name: send it nothing for a while.

    ``until`` None means until it is taken back, which is done by removing the record.
    """

    site: Identifier
    reason: str
    by: str
    at: Moment
    until: Moment | None = None


def template_key(tenant_id: str, template_id: str, version: int) -> str:
    """Key of a template version in ``ref.templates``."""
    return f"{tenant_id}|{template_id}|{version}"


def profile_key(tenant_id: str, email: str) -> str:
    """Key of a profile in ``ref.profiles``."""
    return f"{tenant_id}|{email.casefold()}"


def suppression_key(tenant_id: str, stream: str | None, email: str) -> str:
    """Key of a suppression in ``ref.suppressions``; stream None is written ``*``."""
    return f"{tenant_id}|{stream or '*'}|{email.casefold()}"
