"""How a service says that it is well."""

import msgspec


class Health(msgspec.Struct, frozen=True):
    """``live`` False asks for a restart; ``ready`` False for patience. ``facts`` are figures for whoever looks."""

    live: bool
    ready: bool
    reason: str = ""
    facts: dict[str, float] = {}
