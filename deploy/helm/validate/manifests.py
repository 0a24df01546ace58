"""Render the chart with every file in ``sluice/ci`` and hold all manifests against the schemas of Kubernetes.

    python manifests.py [--crds]

Every helm in .tools/bin is used, kubeconform is strict, and the schemas are those that the package kubernetes-validate
carries, from OLDEST to its newest. With ``--crds`` KEDA's and External Secrets' resources are held against their
types as well, by Node and what ``npm ci`` has put into ``crds/node_modules``. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE.parent / "sluice"
TOOLS = HERE.parents[2] / ".tools/bin"
SCHEMAS = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
OLDEST = (1, 29)
CUSTOM = ("ExternalSecret", "KafkaTopic", "PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication")


def versions() -> list[str]:
    """Kubernetes versions that there are schemas of, oldest first."""
    folders = SCHEMAS.glob("v*-local-strict")
    found = {folder.name.removeprefix("v").removesuffix("-local-strict") for folder in folders}
    return [v for v in sorted(found, key=_parts) if _parts(v)[:2] >= OLDEST]


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def schemas(folder: Path, version: str) -> None:
    """Put the strict schemas of a version there, in the form that kubeconform reads."""
    target = folder / f"v{version}-strict"
    target.mkdir()
    for path in (SCHEMAS / f"v{version}-local-strict").glob("*.json"):
        schema = json.loads(path.read_text(encoding="utf-8"))
        # References are relative to the identifier, which is an address on the web.
        schema.pop("$id", None)
        text = json.dumps(schema).replace("/api/_definitions.json", "_definitions.json")
        (target / path.name).write_text(text, encoding="utf-8")


def render(helm: Path, values: Path, version: str) -> str:
    """The manifests; raises CalledProcessError."""
    command = [helm, "template", "sluice", CHART, "--namespace", "mail", "--values", values, "--kube-version", version]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def conform(folder: Path, manifests: Path, version: str) -> int:
    """How many files are wrong: kubeconform says which, and why."""
    location = "{{ .NormalizedKubernetesVersion }}{{ .StrictSuffix }}/{{ .ResourceKind }}{{ .KindSuffix }}.json"
    command = [
        TOOLS / "kubeconform", "-strict", "-kubernetes-version", version, "-schema-location", f"{folder}/{location}",
        "-skip", ",".join(CUSTOM), "-summary", manifests,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    sys.stdout.write(f"{version}: {done.stdout}{done.stderr}")
    return done.returncode


def custom(documents: list[object]) -> int:
    """1 when a custom resource is not of its type."""
    done = subprocess.run(["node", HERE / "crds/crds.mjs"], input=json.dumps(documents), text=True, check=False)  # noqa: S603, S607
    return done.returncode


def main() -> int:
    """Returns the exit code."""
    helms = sorted(path for path in TOOLS.glob("helm*") if path.is_file())
    files = sorted((CHART / "ci").glob("*-values.yaml"))
    wrong, documents = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifests = folder / "manifests"
        manifests.mkdir()
        for helm in helms:
            for values in files:
                # No template asks which version it is for.
                text = render(helm, values, versions()[0])
                (manifests / f"{helm.name}-{values.name}").write_text(text, encoding="utf-8")
                documents += yaml.safe_load_all(text)
        for version in versions():
            schemas(folder, version)
            wrong += conform(folder, manifests, version)
    if "--crds" in sys.argv:
        wrong += custom([one for one in documents if isinstance(one, dict) and one["kind"] in CUSTOM])
    sys.stdout.write(f"{len(files)} values files, {', '.join(helm.name for helm in helms)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
