"""MTA-STS (RFC 8461) over HTTPS, by aiohttp."""

from sluice.adapters.mtasts.fetch import PolicyFetcher
from sluice.adapters.mtasts.policies import CachedStsPolicies

__all__ = ["CachedStsPolicies", "PolicyFetcher"]
