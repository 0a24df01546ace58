"""``sluice tenant``: who may send, and how."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from sluice.commands.documents import Files, convert, read_documents, refuse
from sluice.commands.output import AsJson, console, print_json, report, say, table
from sluice.domain.addresses import domain_to_ascii
from sluice.domain.errors import SluiceError
from sluice.domain.reference import Tenant
from sluice.domain.topics import TENANTS
from sluice.ports.bus import Record
from sluice.runtime import console as parts
from sluice.runtime.config import load_settings

app = typer.Typer(no_args_is_help=True, help="Push, list, show and remove tenants: who may send, and how.")
TenantId = Annotated[str, typer.Argument(help="The tenant.", metavar="TENANT")]


@app.command()
def push(files: Files, as_json: AsJson = False) -> None:
    """Make tenants known, or change them; services follow within a second.

    Example: [cyan]sluice tenant push examples/tenants/acme.json[/]
    """
    given = convert(read_documents(files), Tenant)
    refuse([f"{place}: {problem}" for place, tenant in given for problem in problems(tenant)])
    settings = load_settings()
    parts.require(settings, TENANTS)
    parts.publish(
        settings,
        [Record(TENANTS, msgspec.json.encode(tenant), tenant.tenant_id.encode()) for _, tenant in given],
    )
    names = [tenant.tenant_id for _, tenant in given]
    report({"pushed": names}, f"pushed {', '.join(names)}", as_json=as_json)


def problems(tenant: Tenant) -> list[str]:
    """What is wrong with a tenant beyond the types of its fields."""
    found = [f"domains: {name}: {why}" for name in tenant.domains if (why := domain_to_ascii(name)[1])]
    if not tenant.domains:
        found.append("domains: there is none, so nothing could be sent")
    known = {domain_to_ascii(name)[0] for name in tenant.domains}
    if tenant.from_ and domain_to_ascii(tenant.from_.email.rpartition("@")[2])[0] not in known:
        found.append("from.email: its domain is not one of the tenant's domains")
    return found


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List tenants.

    Example: [cyan]sluice tenant list[/]
    """
    with parts.catalogue(load_settings()) as known:
        tenants = sorted(known.tenants.values(), key=lambda tenant: tenant.tenant_id)
    if as_json:
        print_json(tenants)
    elif tenants:
        columns = ("tenant", "name", "domains", "signing", "locale", "active")
        console().print(table(columns, [_row(tenant) for tenant in tenants]))
    else:
        say("no tenants; push one: sluice tenant push FILE")


def _row(tenant: Tenant) -> tuple[object, ...]:
    domains = ", ".join(tenant.domains)
    keys = ", ".join(f"{key.selector}._domainkey.{key.domain}" for key in tenant.signing)
    return tenant.tenant_id, tenant.name, domains, keys, tenant.locale, tenant.active


@app.command()
def show(tenant: TenantId) -> None:
    """Print a tenant as JSON, as it can be edited and pushed again.

    Example: [cyan]sluice tenant show acme > acme.json[/]
    """
    with parts.catalogue(load_settings()) as known:
        found = known.tenant(tenant)
    if found is None:
        raise SluiceError(f"there is no tenant {tenant}: see sluice tenant list")
    print_json(found)


@app.command()
def remove(tenant: TenantId, as_json: AsJson = False) -> None:
    """Remove a tenant; what it sends from now on is rejected. Its templates and suppressions stay.

    Example: [cyan]sluice tenant remove acme[/]
    """
    settings = load_settings()
    with parts.catalogue(settings) as known:
        if known.tenant(tenant) is None:
            raise SluiceError(f"there is no tenant {tenant}: see sluice tenant list")
    parts.publish(settings, [Record(TENANTS, None, tenant.encode())])
    report({"removed": tenant}, f"removed {tenant}", as_json=as_json)
