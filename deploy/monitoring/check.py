"""Hold rules and dashboards against Prometheus' own reading of them: ``check.py PROMTOOL``.

- the rules are valid, and so is every panel's query;
- every case of ``rules_test.yaml`` raises the alerts that it names, and no others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

HERE = Path(__file__).parent


def queries() -> list[str]:
    """Every panel's, with Grafana's variable filled in."""
    found = []
    for path in sorted((HERE / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found += [target["expr"] for target in panel.get("targets", ()) if "expr" in target]
    return [query.replace("$__rate_interval", "5m") for query in found]


def main(promtool: str) -> int:
    """Run both; returns the exit code."""
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    with tempfile.TemporaryDirectory() as folder:
        panels = Path(folder) / "panels.yaml"
        panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), encoding="utf-8")
        checked = subprocess.run([promtool, "check", "rules", HERE / "rules.yaml", panels], check=False)  # noqa: S603
    tested = subprocess.run([promtool, "test", "rules", HERE / "rules_test.yaml"], check=False)  # noqa: S603
    return checked.returncode or tested.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
