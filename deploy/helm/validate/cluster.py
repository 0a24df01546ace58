"""A Kubernetes API on this machine, with nothing behind it: kube-apiserver and etcd, for as long as a block lasts.

What is created is checked and stored as in any cluster, admission by Pod Security included. Nothing is scheduled, or
run.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TOOLS = Path(__file__).resolve().parents[3] / ".tools/kube"
PATIENCE = 180.0
"""Seconds that the API may take to answer."""


class Cluster:
    """A running API. ``kubeconfig`` is for helm."""

    def __init__(self, port: int, token: str, certificate: Path, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._url = f"https://127.0.0.1:{port}"
        self._token = token
        self._certificate = certificate
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "here",
                    "clusters": [
                        {"name": "here", "cluster": {"server": self._url, "certificate-authority": str(certificate)}}
                    ],
                    "users": [{"name": "here", "user": {"token": token}}],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
                }
            ),
            encoding="utf-8",
        )  # fmt: skip

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and answer. Warnings of the server's are under ``warnings`` in the answer."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self._url + path, data=data, method=method)  # noqa: S310  our own
        request.add_header("Authorization", f"Bearer {self._token}")
        request.add_header("Content-Type", "application/apply-patch+yaml" if method == "PATCH" else "application/json")
        context = ssl.create_default_context(cafile=str(self._certificate))
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310
                found = {**json.loads(answer.read() or b"{}"), "warnings": answer.headers.get_all("Warning") or []}
                return answer.status, found
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else {"message": text}

    def ready(self) -> bool:
        """Whether it answers."""
        if not self._certificate.exists():
            return False
        try:
            return self.call("GET", "/api/v1/namespaces/default")[0] == 200
        except OSError:
            return False


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start both, and end both; raises RuntimeError with the end of the log when the API does not answer."""
    with tempfile.TemporaryDirectory(prefix="sluice-kube-") as scratch:
        folder = Path(scratch)
        client, peer, port = _free_ports(3)
        token = secrets.token_hex(16)
        (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n", encoding="utf-8")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (folder / "accounts.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        etcd = [
            TOOLS.parent / "bin/etcd", "--data-dir", folder / "etcd",
            "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        ]  # fmt: skip
        server = [
            TOOLS / "kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{client}",
            "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", str(port),
            "--cert-dir", folder / "certificates", "--token-auth-file", folder / "tokens.csv",
            "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", folder / "accounts.pem",
            "--service-account-signing-key-file", folder / "accounts.pem",
            # There is no controller that would make the accounts that it asks for.
            "--disable-admission-plugins", "ServiceAccount", "--endpoint-reconciler-type", "none",
        ]  # fmt: skip
        processes: list[subprocess.Popen[bytes]] = []
        log = folder / "log"
        try:
            with log.open("wb") as output:
                for command in (etcd, server):
                    # One by one, so that what was started is ended even if the next cannot be.
                    processes.append(subprocess.Popen(command, stdout=output, stderr=output))  # noqa: PERF401, S603
            found = Cluster(port, token, folder / "certificates/apiserver.crt", folder / "kubeconfig")
            deadline = time.monotonic() + PATIENCE
            while not found.ready():
                if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
                    raise RuntimeError(f"the API does not answer:\n{log.read_text(errors='replace')[-3000:]}")
                time.sleep(0.5)
            yield found
        finally:
            for process in reversed(processes):
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
