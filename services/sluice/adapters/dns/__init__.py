"""DNS by aiodns."""

from sluice.adapters.dns.resolver import DnsResolver

__all__ = ["DnsResolver"]
