"""Hold the chart against a real kube-apiserver: ``make kube-dry-run``.

For every values file and every helm: ``helm install --dry-run=server``; each manifest by server-side apply with
dryRun=All and strict fields; and each pod, those of hooks and tests too, created with dryRun=All in a namespace that
enforces the restricted profile. Then wrong values, which have to be refused, and a release that is really installed,
upgraded and rolled back (objects only; nothing runs). Prints what it did; exit code 1 when anything went otherwise.

Kinds that Kubernetes does not have are declared with open schemas: what is in them is not checked here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from cluster import Cluster, cluster

HERE = Path(__file__).parent
CHART = HERE.parent / "sluice"
TOOLS = HERE.parents[2] / ".tools/bin"
NAMESPACE = "mail"
MEMORY = 'services.deliver.resources={"requests":{"memory":"2Gi"},"limits":{"memory":"1Gi"}}'
CUSTOM = {
    "ScaledObject": ("keda.sh", "v1alpha1", "scaledobjects"),
    "TriggerAuthentication": ("keda.sh", "v1alpha1", "triggerauthentications"),
    "ExternalSecret": ("external-secrets.io", "v1", "externalsecrets"),
    "PodMonitor": ("monitoring.coreos.com", "v1", "podmonitors"),
    "PrometheusRule": ("monitoring.coreos.com", "v1", "prometheusrules"),
    "KafkaTopic": ("kafka.strimzi.io", "v1beta2", "kafkatopics"),
}
PLURALS = {
    "ConfigMap": "configmaps", "CronJob": "cronjobs", "Deployment": "deployments",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Job": "jobs", "NetworkPolicy": "networkpolicies", "Pod": "pods", "PodDisruptionBudget": "poddisruptionbudgets",
    "Service": "services", "ServiceAccount": "serviceaccounts", "StatefulSet": "statefulsets",
    **{kind: plural for kind, (_, _, plural) in CUSTOM.items()},
}  # fmt: skip


class Run:
    """Counts and tells what was not as it should be."""

    def __init__(self, api: Cluster) -> None:
        self.api = api
        self.wrong = 0

    def tell(self, good: bool, what: str, why: str = "") -> None:
        """One line; a reason when it is not good."""
        self.wrong += not good
        sys.stdout.write(f"{'ok   ' if good else 'WRONG'} {what}{'' if good else f': {why}'}\n")
        sys.stdout.flush()

    def helm(self, helm: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one against the API."""
        environment = {**os.environ, "KUBECONFIG": str(self.api.kubeconfig)}
        command = [helm, *arguments, "--namespace", NAMESPACE]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603

    def prepare(self) -> None:
        """A namespace as strict as can be, and the kinds that operators would bring."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        for name, given in ((NAMESPACE, labels), ("kafka", {})):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": given}}
            self.api.call("POST", "/api/v1/namespaces", body)
        for kind, (group, version, plural) in CUSTOM.items():
            schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            body = {
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{plural}.{group}"},
                "spec": {
                    "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                    "versions": [
                        {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
                    ],
                },
            }  # fmt: skip
            self.api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body)

    def applied(self, manifest: dict[str, Any]) -> str:
        """Why the server refuses it, or warns of it; empty when it does neither."""
        query = "dryRun=All&fieldValidation=Strict&fieldManager=helm&force=true"
        path = f"{_collection(manifest)}/{manifest['metadata']['name']}?{query}"
        status, answer = self.api.call("PATCH", path, manifest)
        if status not in (200, 201):
            return str(answer.get("message"))
        return "; ".join(answer["warnings"])

    def admitted(self, pod: dict[str, Any]) -> str:
        """Why the namespace does not let this pod in; empty when it does."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All&fieldValidation=Strict"
        status, answer = self.api.call("POST", path, pod)
        return "" if status == 201 else str(answer.get("message"))

    def check(self, helm: Path, values: Path) -> None:
        """Everything about one values file."""
        name = f"{helm.name}, {values.name.removesuffix('-values.yaml')}"
        done = self.helm(helm, "install", "sluice", CHART, "--values", values, "--dry-run=server")
        self.tell(done.returncode == 0, f"{name}: helm install --dry-run=server", done.stderr.strip()[:500])
        manifests = self.manifests(helm, values)
        refused = [f"{m['kind']} {m['metadata']['name']}: {why}" for m in manifests if (why := self.applied(m))]
        self.tell(not refused, f"{name}: {len(manifests)} manifests applied (dryRun)", "\n  ".join(refused))
        pods = [pod for manifest in manifests if (pod := pod_of(manifest))]
        kept_out = [f"{pod['metadata']['name']}: {why}" for pod in pods if (why := self.admitted(pod))]
        self.tell(not kept_out, f"{name}: {len(pods)} pods admitted as restricted (dryRun)", "\n  ".join(kept_out))

    def manifests(self, helm: Path, values: Path, *more: str) -> list[dict[str, Any]]:
        """What the chart makes, hooks and tests included."""
        command = ["template", "sluice", CHART, "--values", values, "--kube-version", "1.37.0", *more]
        done = self.helm(helm, *command)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    def refuses(self, helm: Path, values: Path) -> None:
        """Values that are wrong in ways that only a server can see."""
        cases = {
            "a field that there is not": (
                'services.deliver.tolerations=[{"effekt":"NoSchedule"}]',
                "not declared in schema",
            ),
            "less memory than is asked for": (MEMORY, "must be less than or equal to memory limit"),
            "an effect that there is not": ('services.deliver.tolerations=[{"effect":"Never"}]', "Unsupported value"),
            "a label that is none": ('services.deliver.podLabels={"a":"b c"}', "label"),
        }
        for what, (setting, expected) in cases.items():
            manifests = self.manifests(helm, values, "--set-json", setting)
            why = " ".join(self.applied(m) for m in manifests if m["kind"] == "StatefulSet")
            self.tell(expected in why, f"refused: {what}", f"the server says: {why or 'nothing'}")
        install = ("install", "sluice", CHART, "--values", values, "--set-json", MEMORY)
        done = self.helm(helm, *install, "--dry-run=server")
        # It looks things up at the server, and has nothing checked there.
        sys.stdout.write(
            f"      the same by {helm.name} install --dry-run=server: {done.stderr.strip() or 'accepted'}\n"
        )
        done = self.helm(helm, *install, "--no-hooks")
        refused = "must be less than or equal to memory limit" in done.stderr
        self.tell(refused, f"refused: the same by {helm.name} install", done.stderr[:500])
        self.helm(helm, "uninstall", "sluice", "--no-hooks")
        cases = {
            "root": "podSecurityContext.runAsNonRoot=false",
            "no seccomp profile": "podSecurityContext.seccompProfile=null",
            "privilege escalation": "containerSecurityContext.allowPrivilegeEscalation=true",
            "capabilities": 'containerSecurityContext.capabilities={"drop":[]}',
            "the node's network": "services.deliver.hostNetwork=true",
        }
        for what, setting in cases.items():
            pods = [pod for m in self.manifests(helm, values, "--set-json", setting) if (pod := pod_of(m))]
            why = " ".join(self.admitted(pod) for pod in pods)
            self.tell("violates PodSecurity" in why, f"kept out of the namespace: {what}", why or "it is let in")

    def lives(self, helm: Path, small: Path, large: Path) -> None:
        """A release from install to rollback, its objects really stored."""
        steps = {
            "install small": ("install", "sluice", CHART, "--values", small),
            "upgrade to large": ("upgrade", "sluice", CHART, "--values", large),
            "upgrade again, no change": ("upgrade", "sluice", CHART, "--values", large),
            "rollback to small": ("rollback", "sluice", "1"),
            "uninstall": ("uninstall", "sluice"),
        }
        for what, arguments in steps.items():
            done = self.helm(helm, *arguments, "--no-hooks")
            self.tell(done.returncode == 0, f"{helm.name}: {what}", done.stderr.strip()[:500])


def pod_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The pod that a manifest is, or makes; None when it makes none."""
    name = manifest["metadata"]["name"]
    if manifest["kind"] == "Pod":
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": manifest["spec"]}
    if manifest["kind"] not in ("Deployment", "StatefulSet", "Job", "CronJob"):
        return None
    made = manifest["spec"]["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else manifest["spec"]
    # The class would have to be there.
    spec = {**made["template"]["spec"], "priorityClassName": ""}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _collection(manifest: dict[str, Any]) -> str:
    version = manifest["apiVersion"]
    namespace = manifest["metadata"].get("namespace", NAMESPACE)
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{namespace}/{PLURALS[manifest['kind']]}"


def main() -> int:
    """Returns the exit code."""
    helms = sorted(path for path in TOOLS.glob("helm*") if path.is_file())
    files = {path.name: path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
    with cluster() as api:
        run = Run(api)
        sys.stdout.write(f"kube-apiserver {api.call('GET', '/version')[1]['gitVersion']}\n")
        run.prepare()
        for helm in helms:
            for values in files.values():
                run.check(helm, values)
        for helm in helms:
            run.refuses(helm, files["small-values.yaml"])
        for helm in helms:
            run.lives(helm, files["small-values.yaml"], files["large-values.yaml"])
    sys.stdout.write("all as it should be\n" if not run.wrong else f"{run.wrong} wrong\n")
    return 1 if run.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
