"""Renders the chart as helm does, for tests to look at."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/sluice"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
SMALL = CHART / "ci/small-values.yaml"
KUBERNETES = "1.29.0"
SERVICES = ("compose", "deliver", "wheel", "record")

Manifest = dict[str, Any]

every_values = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.name.removesuffix("-values.yaml"))


@functools.cache
def helm() -> str:
    """The binary that ``make kube-check`` makes, or the one there is; skips the test when there is none."""
    made = ROOT / ".tools/bin/helm"
    found = str(made) if made.exists() else shutil.which("helm")
    if found is None and os.environ.get("CI"):
        pytest.fail("there is no helm: run make kube-check first")
    if found is None:
        pytest.skip("there is no helm: make kube-check builds it")
    return found


def run(values: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """``helm template``; settings by path with ``__`` for dots."""
    command = [helm(), "template", "sluice", str(CHART), "--namespace", "mail", "--kube-version", KUBERNETES]
    command += ["--values", str(values), *arguments]
    for path, value in settings.items():
        command += ["--set-json", f"{path.replace('__', '.')}={json.dumps(value)}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def refused(values: Path = SMALL, **settings: Any) -> str:
    """What helm says when it does not render; a failed test when it does."""
    done = run(values, **settings)
    assert done.returncode != 0, "it was rendered"
    return done.stderr


def render(values: Path = SMALL, **settings: Any) -> list[Manifest]:
    """All manifests, hooks and tests included."""
    done = run(values, **settings)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@functools.cache
def rendered(values: Path) -> tuple[Manifest, ...]:
    """As :func:`render`, once for each file; not to be changed."""
    return tuple(render(values))


def one(manifests: list[Manifest] | tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The manifest of that kind and name."""
    found = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def workload(manifests: list[Manifest] | tuple[Manifest, ...], service: str) -> Manifest:
    """A service's Deployment or StatefulSet."""
    found = [m for m in manifests if m["kind"] in ("Deployment", "StatefulSet") and component(m) == service]
    assert len(found) == 1
    return found[0]


def component(manifest: Manifest) -> str:
    """What part of the whole it belongs to."""
    return str(manifest["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def pods(manifests: list[Manifest] | tuple[Manifest, ...]) -> dict[str, Manifest]:
    """Every pod or pod template, by what makes it: its labels under ``metadata``, the rest under ``spec``."""
    found: dict[str, Manifest] = {}
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            found[name] = manifest
        elif manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            found[name] = manifest["spec"]["template"]
        elif manifest["kind"] == "CronJob":
            found[name] = manifest["spec"]["jobTemplate"]["spec"]["template"]
    return found


def environment(pod: Manifest) -> dict[str, Any]:
    """Variables of its only container: a text, or where it comes from."""
    (container,) = pod["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", [])}
