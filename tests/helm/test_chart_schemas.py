"""The manifests against Kubernetes' own schemas: the oldest version that the chart takes, and the newest known."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
from tests.helm.chart import KUBERNETES, SMALL, every_values, rendered, workload

CUSTOM = ("ExternalSecret", "KafkaTopic", "PodMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication")


@every_values
@pytest.mark.parametrize("version", [KUBERNETES, kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(values: Path, version: str) -> None:
    seen = set()
    for manifest in rendered(values):
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, version, strict=True)
            seen.add(manifest["kind"])
    assert seen >= {"Deployment", "StatefulSet", "Service", "NetworkPolicy", "ServiceAccount"}


def test_a_field_that_there_is_not_would_be_found() -> None:
    made = workload(rendered(SMALL), "deliver")
    wrong = {**made, "spec": {**made["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)
