"""``sluice template``: what mail is rendered from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sluice.commands.documents import Files, convert, read_documents, refuse
from sluice.commands.failures import WrongUsage
from sluice.commands.output import AsJson, console, print_json, say, table
from sluice.commands.variables import Variables, VariablesFile, read_variables
from sluice.domain.catalogue import Catalogue
from sluice.domain.content import Rendered
from sluice.domain.errors import SluiceError
from sluice.domain.events import TemplateRef
from sluice.domain.reference import Template, Tenant, template_key
from sluice.domain.topics import TEMPLATES
from sluice.domain.variables import choose_content, merge_variables
from sluice.ports.bus import Record
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Push, list, show and preview templates.")

TemplateId = Annotated[str, typer.Argument(help="The template.", metavar="TEMPLATE")]
OfTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Whose; needed when several have it.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="The newest when absent.")]
Change = tuple[Template, str]
"""A template and what became of it: ``new`` or ``unchanged``."""


@app.command()
def push(
    files: Files,
    force: Annotated[bool, typer.Option("--force", help="Change a version that exists already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check templates and publish them. One without a version gets the next, unless it is the same as the newest.

    Nothing is published when a template is wrong.

    Example: [cyan]sluice template push examples/templates/activation.json[/]
    """
    documents = read_documents(files)
    refuse(_wrong(convert([(place, {"version": 1, **document}) for place, document in documents], Template)))
    settings = load_settings()
    with parts.catalogue(settings) as known:
        changes = _changes(documents, known, force=force)
    records = [
        Record(TEMPLATES, msgspec.json.encode(one), template_key(one.tenant_id, one.template_id, one.version).encode())
        for one, what in changes
        if what == "new"
    ]
    parts.publish(settings, records)
    rows = [(one.tenant_id, one.template_id, one.version, ", ".join(one.locales), what) for one, what in changes]
    _print(rows, ("tenant", "template", "version", "locales", "result"), as_json)


def _wrong(templates: Iterable[tuple[str, Template]]) -> list[str]:
    renderer = parts.renderer()
    return [
        f"{place}: {problem.locale}: {problem.part}{f', line {problem.line}' if problem.line else ''}: {problem.reason}"
        for place, template in templates
        for problem in renderer.check(template)
    ]


def _changes(documents: Iterable[tuple[str, dict[str, Any]]], known: Catalogue, *, force: bool) -> list[Change]:
    """Give each its version; those of one push see each other. Raises for versions that would be overwritten."""
    changes: list[Change] = []
    problems = []
    for place, document in documents:
        draft = msgspec.convert({"version": 1, **document}, Template)
        newest = known.template(draft.tenant_id, draft.template_id, None)
        if "version" not in document and newest is not None:
            same = msgspec.structs.replace(draft, version=newest.version) == newest
            draft = msgspec.structs.replace(draft, version=newest.version if same else newest.version + 1)
        there = known.template(draft.tenant_id, draft.template_id, draft.version)
        if there is not None and there != draft and not force:
            problems.append(f"{place}: version {draft.version} exists and differs: leave the version out, or --force")
        changes.append((draft, "unchanged" if there == draft else "new"))
        key = template_key(draft.tenant_id, draft.template_id, draft.version)
        known.apply(TEMPLATES, key.encode(), msgspec.json.encode(draft))
    refuse(problems)
    return changes


@app.command(name="list")
def list_(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's.")] = None,
    versions: Annotated[bool, typer.Option("--all", help="Every version, not only the newest.")] = False,
    as_json: AsJson = False,
) -> None:
    """List templates.

    Example: [cyan]sluice template list --tenant acme[/]
    """
    with parts.catalogue(load_settings()) as known:
        found = [
            one
            for one in known.templates.values()
            if (tenant is None or one.tenant_id == tenant)
            and (versions or one == known.template(one.tenant_id, one.template_id, None))
        ]
    renderer = parts.renderer()
    found.sort(key=lambda one: (one.tenant_id, one.template_id, one.version))
    rows = [
        (
            one.tenant_id,
            one.template_id,
            one.version,
            ", ".join(one.locales),
            ", ".join(sorted(renderer.undeclared(one))),
        )
        for one in found
    ]
    if not rows and not as_json:
        return say("no templates; push one: sluice template push FILE")
    return _print(rows, ("tenant", "template", "version", "locales", "variables"), as_json)


@app.command()
def show(template: TemplateId, tenant: OfTenant = None, version: Version = None) -> None:
    """Print a template as JSON, as it can be edited and pushed again.

    Example: [cyan]sluice template show activation --tenant acme > activation.json[/]
    """
    with parts.catalogue(load_settings()) as known:
        print_json(find(known, template, tenant, version))


@app.command()
def preview(
    template: Annotated[str, typer.Argument(help="The template, or a file that holds one.", metavar="TEMPLATE|FILE")],
    tenant: OfTenant = None,
    version: Version = None,
    locale: Annotated[str | None, typer.Option("--locale", "-l", help="As a recipient's: zh-CN, de.")] = None,
    var: Variables = None,
    variables: VariablesFile = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the HTML part to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Render a template as a mail would be, and show its subject and text.

    Example: [cyan]sluice template preview activation -t acme -l zh-CN --var url=https://acme.example/a[/]
    """
    given = read_variables(var, variables)
    file = Path(template)
    if file.is_file():
        _, found = convert([(p, {"version": 1, **d}) for p, d in read_documents([file])], Template)[0]
        owner = Tenant(tenant_id=found.tenant_id, domains=[])
    else:
        with parts.catalogue(load_settings()) as known:
            found = find(known, template, tenant, version)
            owner = known.tenant(found.tenant_id) or Tenant(tenant_id=found.tenant_id, domains=[])
    asked = TemplateRef(found.template_id, variables=given)
    content = choose_content(found, locale, owner.locale)
    rendered = parts.renderer().render(found, content, merge_variables(found, owner, None, asked, {}))
    _show(rendered, html, as_json)


def _show(rendered: Rendered, html: Path | None, as_json: bool) -> None:
    if html is not None:
        if rendered.html is None:
            raise SluiceError("the template has no HTML part in this locale")
        try:
            html.write_text(rendered.html, encoding="utf-8")
        except OSError as error:
            raise WrongUsage(f"{html}: {error.strerror}") from error
    if as_json:
        return print_json(rendered)
    say(f"Subject: {rendered.subject}\n\n{rendered.text or '(no text part)'}")
    return say(f"\nHTML written to {html}") if html else None


def find(known: Catalogue, template: str, tenant: str | None, version: int | None) -> Template:
    """The template by name; raises :class:`SluiceError` when there is none, or more than one tenant's."""
    owners = {one.tenant_id for one in known.templates.values() if one.template_id == template}
    if tenant is None and len(owners) > 1:
        raise WrongUsage(f"several tenants have a template {template}: --tenant {' or '.join(sorted(owners))}")
    owner = tenant or next(iter(owners), "")
    found = known.template(owner, template, version)
    if found is None:
        which = f" version {version}" if version else ""
        whose = f" of tenant {tenant}" if tenant else ""
        raise SluiceError(f"there is no template {template}{which}{whose}: see sluice template list --all")
    return found


def _print(rows: list[tuple[Any, ...]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        console().print(table(columns, rows))
