"""Rule files (TOML) read into the domain's values."""

from sluice.adapters.rules.loader import load_rules

__all__ = ["load_rules"]
