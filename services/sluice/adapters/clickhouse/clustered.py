"""The schema's statements for a cluster of replicas: ``ON CLUSTER`` and Replicated engines.

One shard, any number of replicas. A batch that is stored again has to meet what the first time left, and a second shard
would not know of it; so outcomes are not spread over shards. Pure: text in, text out.
"""

from __future__ import annotations

import re

from sluice.domain.errors import SluiceError

_TARGET = re.compile(
    r"^(?P<head>CREATE\s+(?:OR\s+REPLACE\s+)?(?:DATABASE|TABLE|VIEW|MATERIALIZED\s+VIEW)"
    r"(?:\s+IF\s+NOT\s+EXISTS)?\s+[\w.]+|ALTER\s+TABLE\s+[\w.]+|TRUNCATE\s+TABLE\s+(?:IF\s+EXISTS\s+)?[\w.]+|"
    r"DROP\s+(?:TABLE|VIEW)\s+(?:IF\s+EXISTS\s+)?[\w.]+)(?P<rest>.*)$",
    re.DOTALL,
)
_ENGINE = re.compile(r"^ENGINE\s*=\s*((?:Aggregating|Replacing|Summing)?MergeTree)(?:\(([^)]*)\))?", re.MULTILINE)
_WINDOW = re.compile(r"\bnon_replicated_deduplication_window\s*=\s*(\d+)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

PATH = "/clickhouse/tables/{uuid}/{shard}"
REPLICA = "{replica}"
"""Macros of the server's configuration. ``{uuid}`` is the table's own: a dropped table's path is never met again."""
WINDOW_S = 7 * 86_400
"""As long as the outcomes' topic keeps a batch that may be stored again. Some versions default to an hour."""


def for_cluster(statement: str, cluster: str) -> str:
    """``statement`` for every replica of ``cluster``; as it is when ``cluster`` is empty.

    Raises :class:`SluiceError` for a name that is none, and for a statement that would reach only one replica.
    """
    if not cluster:
        return statement
    if not _NAME.fullmatch(cluster):
        raise SluiceError(
            f"cluster name {cluster!r}: letters, digits, dots, dashes and underscores, beginning with a letter"
        )
    match = _TARGET.match(statement)
    if match is None:
        raise SluiceError(f"a statement that cannot be run on a cluster: {statement.split(chr(10), 1)[0][:100]}")
    text = f"{match['head']} ON CLUSTER '{cluster}'{match['rest']}"
    text = _ENGINE.sub(_replicated, text)
    return _WINDOW.sub(
        lambda found: (
            f"replicated_deduplication_window = {found[1]},\n    replicated_deduplication_window_seconds = {WINDOW_S}"
        ),
        text,
    )


def _replicated(found: re.Match[str]) -> str:
    arguments = ", ".join(part for part in (f"'{PATH}'", f"'{REPLICA}'", (found[2] or "").strip()) if part)
    return f"ENGINE = Replicated{found[1]}({arguments})"
