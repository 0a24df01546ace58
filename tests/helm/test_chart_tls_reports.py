"""The CronJob that sends reports of TLS."""

from tests.helm.chart import SMALL, environment, one, pods, refused, render
from typer.main import get_command

from sluice.commands.tls_reports import app

ON = {"tlsReports__enabled": True, "settings": {"tls_report_tenant": "reports"}}


def test_nothing_of_it_is_made_unless_asked() -> None:
    assert not [made for made in render(SMALL) if "tls-reports" in made["metadata"]["name"]]


def test_it_runs_the_command_with_the_settings_of_kafka_and_clickhouse() -> None:
    made = render(SMALL, **ON)
    job = one(made, "CronJob", "sluice-tls-reports")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = pods([job])["CronJob sluice-tls-reports"]
    (container,) = pod["spec"]["containers"]
    group, command = container["args"]
    assert group == "tls-reports"
    assert command in get_command(app).commands
    assert {"SLUICE_KAFKA_BOOTSTRAP", "SLUICE_CLICKHOUSE_URL", "SLUICE_TLS_REPORT_TENANT"} <= set(environment(pod))


def test_it_reaches_kafka_clickhouse_and_the_web_and_no_mail_server() -> None:
    policy = one(render(SMALL, **ON, networkPolicy__enabled=True), "NetworkPolicy", "sluice-tls-reports")
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert {53, 443} < ports
    assert 25 not in ports


def test_without_a_tenant_it_is_refused_in_words() -> None:
    assert "settings.tls_report_tenant" in refused(SMALL, tlsReports__enabled=True)
