"""What of the chart is made from the code and from values.yaml's comments: ``generate.py [--check]``.

- ``sluice/README.md``: the table of values;
- ``sluice/values.schema.json``: its descriptions, and the settings that ``settings`` may hold, with their bounds;
- ``sluice/files/topics.json``: every topic, for Strimzi;
- ``sluice/files/dashboards/``: the dashboards of ``deploy/monitoring``: a chart reads nothing outside its folder.

With ``--check`` nothing is written, and the exit code is 1 when something would be.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from sluice.adapters.kafka.topics import _config as topic_config
from sluice.domain.topics import Layout, TopicSpec, topics
from sluice.runtime.config import Settings

CHART = Path(__file__).parent / "sluice"
VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
TOPICS = CHART / "files/topics.json"
DASHBOARDS = CHART / "files/dashboards"
GRAFANA = CHART.parents[1] / "monitoring/grafana"

MANAGED = frozenset(
    {
        "node", "health_host", "health_port", "drain_s", "hash_key", "relay_password", "dkim_keys_dir", "rules_dir",
        "ehlo_name", "routes", "kafka_bootstrap", "kafka_security_protocol", "kafka_sasl_mechanism",
        "kafka_sasl_username", "kafka_sasl_password", "kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile",
        "kafka_ssl_key_password", "kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret",
        "kafka_oauth_scope", "kafka_oauth_extensions", "kafka_oauth_cafile", "kafka_instance_id",
        "kafka_session_timeout_s", "kafka_replication", "kafka_send_partitions", "kafka_lane_partitions",
        "kafka_wheel_partitions", "clickhouse_url", "clickhouse_user", "clickhouse_password", "clickhouse_ssl_cafile",
        "clickhouse_database",
    }
)  # fmt: skip
"""Settings that other values set; all others may be given in ``settings``."""

_BEGIN, _END = "<!-- values -->", "<!-- end of values -->"
_key = re.compile(r'^( *)(?:"([^"]+)"|([A-Za-z][\w.-]*)):(.*)$')


def comments(text: str) -> dict[str, str]:
    """By path (``kafka.sasl.mechanism``), the comment right above each key of ``values.yaml``."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            above.append(stripped.removeprefix("#").strip())
        elif match := _key.match(line):
            indent = len(match[1])
            path = [(depth, name) for depth, name in path if depth < indent]
            path.append((indent, match[2] or match[3]))
            if above:
                found[".".join(name for _, name in path)] = " ".join(above)
            above = []
        else:
            above = []
    return found


def leaves(values: Any, documented: Mapping[str, str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is described, or is no map; a described map is told as a whole unless its parts are told."""
    for name, value in values.items():
        here = f"{path}.{name}" if path else name
        parts = isinstance(value, dict) and any(other.startswith(f"{here}.") for other in documented)
        if parts:
            yield from leaves(value, documented, here)
        else:
            yield here, value


def table(text: str) -> str:
    """The values as Markdown."""
    told = comments(text)
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, value in leaves(yaml.safe_load(text), told):
        cells = [f"`{path}`", f"`{json.dumps(value)}`", _description(path, told)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _description(path: str, told: Mapping[str, str]) -> str:
    if path in told:
        return told[path]
    # A service's own value of what serviceDefaults describe.
    return told.get(re.sub(r"^services\.\w+", "serviceDefaults", path), "")


def own_settings() -> dict[str, Any]:
    """JSON Schemas of the settings that ``settings`` may hold, by name."""
    properties = Settings.model_json_schema()["properties"]
    return {
        name: {key: value for key, value in schema.items() if key not in ("title", "default")}
        for name, schema in sorted(properties.items())
        if name not in MANAGED
    }


def schema(old: str, text: str) -> str:
    """The schema with descriptions and settings as they are to be."""
    told = comments(text)
    made = json.loads(old)
    made["$defs"]["settings"]["properties"] = own_settings()
    for path, description in told.items():
        _describe(made, path.split("."), description)
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _describe(made: dict[str, Any], path: list[str], description: str) -> None:
    if path[0] == "services" and ((len(path) > 2 and path[1] != "compose") or path[-1] == "resources"):
        return  # all have one schema, and a service's resources have reasons of their own
    node = made
    for name in path:
        if "$ref" in node:
            node = made["$defs"][node["$ref"].rpartition("/")[2]]
        inner = node.get("properties", {}).get(name, node.get("additionalProperties"))
        if not isinstance(inner, dict):
            return
        node = inner
    node["description"] = description


def topic_list() -> str:
    """Every topic with its partitions, which may name one of ``kafka.*Partitions``, and its configuration."""
    counts = {"send_partitions": 1001, "lane_partitions": 1002, "wheel_partitions": 1003}
    names = {1001: "sendPartitions", 1002: "lanePartitions", 1003: "wheelPartitions"}
    made = [
        {"name": spec.name, "partitions": names.get(spec.partitions, spec.partitions), "config": _config(spec)}
        for spec in topics(Layout(**counts))
    ]
    return json.dumps(made, indent=2) + "\n"


def _config(spec: TopicSpec) -> dict[str, str]:
    """As the command would set it, without ``min.insync.replicas``, which follows the replication."""
    return {name: value for name, value in topic_config(spec, 1).items() if name != "min.insync.replicas"}


def made() -> dict[Path, str]:
    """Every file that is made, with its content."""
    text = VALUES.read_text(encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return {
        README: f"{before}{_BEGIN}\n\n{table(text)}\n\n{_END}{after}",
        SCHEMA: schema(SCHEMA.read_text(encoding="utf-8"), text),
        TOPICS: topic_list(),
        **{DASHBOARDS / path.name: path.read_text(encoding="utf-8") for path in sorted(GRAFANA.glob("*.json"))},
    }


def main() -> int:
    """Write, or compare; returns the exit code."""
    stale = [path for path, text in made().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.name} is not up to date: run deploy/helm/generate.py\n")
        return 1 if stale else 0
    for path, text in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
