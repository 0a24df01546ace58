"""Runs the chart's pods as processes on this machine, as far as a kubelet's work is that: what they are given, whether
they are ready, and how they end. With ``sandbox`` each has its own mounts: a read-only root but for what the pod says,
its own user, and no capabilities; that needs root.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.helm.chart import CHART, Manifest

BIN = Path(sys.executable).parent
VOLUMES = Path("/srv")
"""Where a sandboxed pod has its volumes."""
_reference = re.compile(r"\$\((\w+)\)")


class Pod:
    """One container of a pod that runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int, spec: Manifest) -> None:
        self.process = process
        self._log = log
        self._port = port
        self._spec = spec

    @property
    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    def probe(self, name: str) -> bool:
        """Whether its ``readiness``, ``liveness`` or ``startup`` probe succeeds now."""
        path = self._spec["containers"][0][f"{name}Probe"]["httpGet"]["path"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def until_ready(self, seconds: float = 120.0) -> None:
        """Wait for its readiness probe."""
        deadline = time.monotonic() + seconds
        while not self.probe("readiness"):
            assert self.process.poll() is None, f"it ended:\n{self.log[-3000:]}"
            assert time.monotonic() < deadline, f"it is not ready:\n{self.log[-3000:]}"
            time.sleep(0.2)

    def result(self, seconds: float = 240.0) -> int:
        """Its exit code, waited for."""
        return self.process.wait(seconds)

    def delete(self) -> int:
        """Told to stop; its exit code, which must come within the pod's grace."""
        self.process.terminate()
        return self.process.wait(self._spec["terminationGracePeriodSeconds"])


class Kubelet:
    """``secrets`` are the texts of keys by Secret. ``folder`` keeps volumes and logs."""

    def __init__(self, folder: Path, secrets: dict[str, dict[str, str]], *, sandbox: bool = False) -> None:
        self._folder = folder
        self._secrets = secrets
        self._sandbox = sandbox
        self._pods: list[Pod] = []

    def run(self, name: str, pod: Manifest, rules: dict[str, str] | None = None) -> Pod:
        """Start the only container of a pod, or of a pod's template. ``rules`` is the data of its ConfigMap."""
        spec = pod["spec"]
        (container,) = spec["containers"]
        home = self._folder / f"{name}-{len(self._pods)}"
        mounts = self._mounts(home, container, spec)
        for file, text in (rules or {}).items():
            (mounts["/etc/sluice/rules"] / file).write_text(text)
        port = _free_port()
        # Pods have addresses of their own; processes share one.
        environment = {**self._environment(name, container), "SLUICE_HEALTH_PORT": str(port)}
        command = [*container.get("command", ["sluice"]), *container.get("args", [])]
        if self._sandbox:
            mounts = {path: VOLUMES / here.name for path, here in mounts.items()}
        environment = {key: _moved(value, mounts) for key, value in environment.items()}
        command = [_moved(each, mounts) for each in command]
        command[0] = str(BIN / command[0])
        if self._sandbox:
            command = _sandboxed(command, home, spec["securityContext"]["runAsUser"])
        log = home / "log"
        # Nothing of ours gets in but what the image has.
        given = {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "HOME": "/tmp", **environment}
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=given, cwd=home, stdout=output, stderr=output)
        started = Pod(process, log, port, spec)
        self._pods.append(started)
        return started

    def close(self) -> None:
        """End what still runs."""
        for pod in self._pods:
            with contextlib.suppress(ProcessLookupError):
                pod.process.kill()
            pod.process.wait()

    def _environment(self, name: str, container: Manifest) -> dict[str, str]:
        found: dict[str, str] = {}
        for variable in container["env"]:
            if "value" in variable:
                value = _reference.sub(lambda match: found.get(match[1], match[0]), variable["value"])
            elif "secretKeyRef" in variable["valueFrom"]:
                reference = variable["valueFrom"]["secretKeyRef"]
                value = self._secrets[reference["name"]][reference["key"]]
            else:
                assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
                value = name
            found[variable["name"]] = value
        return found

    def _mounts(self, home: Path, container: Manifest, spec: Manifest) -> dict[str, Path]:
        """The container's paths, and the folders here that are mounted there."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        made: dict[str, Path] = {}
        for mount in container["volumeMounts"]:
            here = made[mount["mountPath"]] = home / mount["name"]
            here.mkdir(parents=True)
            volume = volumes[mount["name"]]
            for source in volume.get("projected", {}).get("sources", []):
                for item in source["secret"]["items"]:
                    path = here / item["path"]
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(self._secrets[source["secret"]["name"]][item["key"]])
            if mount["name"] == "script":
                (here / "one_mail.py").write_bytes((CHART / "files/one_mail.py").read_bytes())
        return made


def _moved(text: str, mounts: dict[str, Path]) -> str:
    for path, here in mounts.items():
        if path != "/tmp" and text.startswith(path):
            return str(here) + text.removeprefix(path)
    return text


def _sandboxed(command: list[str], home: Path, user: int) -> list[str]:
    """The command in mounts of its own; this interpreter and its packages stand in for the image."""
    python = Path(sys.base_prefix)
    hidden = [
        f"mkdir {home}/python",
        f"mount --bind {python} {home}/python",
        "mount -t tmpfs -o mode=755 tmpfs /root",
        f"mkdir -p {python}",
        f"mount --bind {home}/python {python}",
    ]
    lines = [
        "set -e",
        "mount --make-rprivate /",
        # Only root may look into /root, and the pod's user is another.
        *(hidden if python.is_relative_to("/root") else []),
        f"mount --bind {home} {VOLUMES}",
        f"mount -o remount,bind,ro {VOLUMES}",
        "mount -t tmpfs -o mode=1777 tmpfs /tmp",
        "mount -o remount,bind,ro /",
        "if touch /written 2>/dev/null; then echo the root can be written; exit 98; fi",
        f"cd {VOLUMES}",
        f"exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "
        + shlex.join(command),
    ]
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines)]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
