"""Rule files (TOML) read into the domain's values."""

from sluice.adapters.rules.folder import Refused, RulesFolder
from sluice.adapters.rules.loader import load_rules

__all__ = ["Refused", "RulesFolder", "load_rules"]
