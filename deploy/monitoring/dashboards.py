"""The dashboards for Prometheus, as lists: by file, its sections; by section, its panels."""

from __future__ import annotations

from typing import NamedTuple

_OURS = '{service=~"compose|deliver|wheel|record"}'
"""Others tell metrics of these names as well."""


class Panel(NamedTuple):
    """``queries``: one a line. ``alert``: the alert that the panel is for; ``line`` is where it begins to be bad."""

    title: str
    unit: str
    legend: str
    queries: str
    alert: str = ""
    line: float | None = None


class Dashboard(NamedTuple):
    """``sections``: a question, and the panels that answer it."""

    uid: str
    title: str
    sections: tuple[tuple[str, tuple[Panel, ...]], ...]


ON_CALL = Dashboard(
    "sluice-on-call", "Sluice: on call",
    (
        ("Does mail arrive?", (
            Panel("Services that are ready", "short", "{{service}}", "sum by (service) (sluice_ready)",
                  "SluiceServiceGone", 1),
            Panel("Oldest mail, as a part of what is promised", "percentunit", "{{priority}}",
                  'max by (priority) (label_replace(sluice_lag_age_seconds, "priority", "$1", "topic",'
                  ' "mail[.](?:send|ready)[.](.+)")) / max by (priority) (sluice_promise_seconds)',
                  "SluiceMailLate", 1),
            Panel("Delivered", "ops", "delivered",
                  'sum(rate(sluice_outcomes_total{type="delivered"}[$__rate_interval]))', "SluiceDeliveryCollapsed"),
            Panel("Records behind", "short", "{{topic}}",
                  'sum by (topic) (sluice_lag_records{topic!~"mail[.]wheel.*"})', "SluiceLagStands"),
        )),
        ("Do sites take it?", (
            Panel("Put off by sites, of all attempts", "percentunit", "{{site}}",
                  'sum by (site) (increase(sluice_outcomes_total{type="deferred", category!="throttled"}[30m]))'
                  ' / sum by (site) (increase(sluice_outcomes_total{type="attempted"}[30m]))', "SluiceDeferrals", 0.3),
            Panel("Bounced, of all that ended", "percentunit", "{{site}}",
                  'sum by (site) (increase(sluice_outcomes_total{type="bounced"}[1h]))'
                  ' / sum by (site) (increase(sluice_outcomes_total{type=~"bounced|delivered"}[1h]))',
                  "SluiceBounces", 0.1),
            Panel("Complaints, of all delivered", "percentunit", "complaints",
                  'sum(increase(sluice_recorded_total{type="complained"}[1d]))'
                  ' / sum(increase(sluice_recorded_total{type="delivered"}[1d]))', "SluiceComplaints", 0.001),
            Panel("Lanes paused", "short", "{{site}}", "sum by (site) (sluice_lanes_paused) > 0", "SluiceSitePaused"),
        )),
        ("What is about to break?", (
            Panel("Dead letters in half an hour", "short", "dead letters",
                  'sum(increase(sluice_records_published_total{topic="mail.dead"}[30m]))', "SluiceDeadLetters", 1),
            Panel("Refused by Kafka", "ops", "{{topic}}",
                  "sum by (topic) (rate(sluice_publish_failures_total[$__rate_interval]))", "SluiceKafkaRefuses"),
            Panel("Memory, of its limit", "percentunit", "{{service}} {{instance}}",
                  "sluice_memory_used_bytes / sluice_memory_limit_bytes", "SluiceMemoryNearLimit", 0.9),
            Panel("Free disk", "percentunit", "{{folder}}",
                  "min by (folder) (sluice_disk_free_bytes / sluice_disk_size_bytes)", "SluiceDiskFilling", 0.1),
            Panel("Certificates end in", "s", "{{use}}", "min by (use) (sluice_certificate_expires_seconds)",
                  "SluiceCertificateExpires", 21 * 86_400),
            Panel("DKIM keys that are missing", "short", "missing", 'max(sluice_dkim_keys{state="missing"})',
                  "SluiceDkimKeyMissing", 1),
        )),
    ),
)  # fmt: skip

PIPELINE = Dashboard(
    "sluice", "Sluice: pipeline",
    (
        ("Is mail late?", (
            Panel("Accepted to delivered: half, and all but one in a hundred", "s", "{{priority}}",
                  "histogram_quantile(0.5, sum by (priority, le)"
                  " (rate(sluice_delivery_seconds_bucket[$__rate_interval])))\n"
                  "histogram_quantile(0.99, sum by (priority, le)"
                  " (rate(sluice_delivery_seconds_bucket[$__rate_interval])))"),
            Panel("Oldest unfinished record", "s", "{{topic}}", "max by (topic) (sluice_lag_age_seconds)"),
            Panel("Promised", "s", "{{priority}}", "max by (priority) (sluice_promise_seconds)"),
            Panel("Records behind", "short", "{{topic}}",
                  'sum by (topic) (sluice_lag_records{topic!~"mail[.]wheel.*"})'),
        )),
        ("Why?", (
            Panel("Where delivered mails spent their time, per mail", "s", "{{priority}} {{reason}}",
                  "sum by (priority, reason) (rate(sluice_delivery_waits_seconds_total[$__rate_interval]))"
                  " / ignoring (reason) group_left"
                  " sum by (priority) (rate(sluice_delivery_seconds_count[$__rate_interval]))"),
            Panel("Put off, by reason", "ops", "{{reason}}",
                  "sum by (reason) (rate(sluice_put_off_total[$__rate_interval]))"),
            Panel("Wait in memory", "short", "{{service}} {{reason}}", "sum by (service, reason) (sluice_waiting)"),
            Panel("Rest in the wheel, by tier", "short", "{{topic}}",
                  'sum by (topic) (sluice_lag_records{topic=~"mail[.]wheel.*"})'),
            Panel("Held in memory, by tier", "short", "{{tier}}", "sum by (tier) (sluice_wheel_resting)"),
            Panel("Come back within", "short", "{{within}}", "sum by (within) (sluice_wheel_due)"),
            Panel("Wheel's lateness, all but one in a hundred", "s", "late",
                  "histogram_quantile(0.99, sum by (le)"
                  " (rate(sluice_wheel_lateness_seconds_bucket[$__rate_interval])))"),
        )),
        ("What becomes of mail", (
            Panel("Outcomes", "ops", "{{type}}", "sum by (type) (rate(sluice_outcomes_total[$__rate_interval]))"),
            Panel("Failures, by category", "ops", "{{type}} {{category}}",
                  "sum by (type, category) (rate(sluice_outcomes_total{"
                  'type=~"deferred|bounced|rejected|expired|dead|in_doubt|held"}[$__rate_interval]))'),
        )),
        ("The machinery", (
            Panel("Taken", "ops", "{{topic}}", "sum by (topic) (rate(sluice_records_taken_total[$__rate_interval]))"),
            Panel("Published, dead letters among them", "ops", "{{topic}}",
                  "sum by (topic) (rate(sluice_records_published_total[$__rate_interval]))"),
            Panel("Refused by Kafka", "ops", "{{topic}}",
                  "sum by (topic) (rate(sluice_publish_failures_total[$__rate_interval]))"),
            Panel("In hand", "short", "{{service}} {{topic}}", "sum by (service, topic) (sluice_records_unfinished)"),
            Panel("In hand", "bytes", "{{service}} {{topic}}",
                  "sum by (service, topic) (sluice_records_unfinished_size_bytes)"),
            Panel("Since something was finished", "s", "{{service}} {{instance}}",
                  "max by (service, instance) (sluice_commit_age_seconds)"),
            Panel("Kafka's acknowledgement, all but one in a hundred", "s", "{{service}}",
                  "histogram_quantile(0.99, sum by (service, le)"
                  " (rate(sluice_publish_ack_seconds_bucket[$__rate_interval])))"),
            Panel("Not acknowledged yet", "short", "{{service}}", "sum by (service) (sluice_publish_queue)"),
            Panel("Partitions", "short", "{{service}} {{instance}}", "sum by (service, instance) (sluice_partitions)"),
            Panel("SMTP connections, and most of them", "short", "{{instance}}",
                  "sluice_connections\nsluice_connections_max"),
            Panel("Rules in force", "short", "{{version}}", "count by (version) (sluice_rules_info)"),
            Panel("Rules taken over, and refused: ago", "s", "{{service}} {{instance}}",
                  "time() - sluice_rules_loaded_timestamp_seconds\n"
                  "time() - (sluice_rules_refused_timestamp_seconds > 0)"),
            Panel("Rules refused", "short", "{{service}} {{instance}}", "sluice_rules_refused"),
            Panel("Reference data", "s", "{{service}} {{instance}}",
                  "sluice_reference_age_seconds\nsluice_reference_lag"),
        )),
        ("ClickHouse", (
            Panel("Stored", "ops", "{{type}}", "sum by (type) (rate(sluice_recorded_total[$__rate_interval]))"),
            Panel("Insert: half, and all but one in a hundred", "s", "insert",
                  "histogram_quantile(0.5, sum by (le) (rate(sluice_record_store_seconds_bucket[$__rate_interval])))\n"
                  "histogram_quantile(0.99, sum by (le) (rate(sluice_record_store_seconds_bucket[$__rate_interval])))"),
            Panel("Until an outcome can be queried, all but one in a hundred", "s", "delay",
                  "histogram_quantile(0.99, sum by (le) (rate(sluice_record_delay_seconds_bucket[$__rate_interval])))"),
            Panel("Outcomes in a batch", "short", "rows",
                  "sum(rate(sluice_record_batch_rows_sum[$__rate_interval]))"
                  " / sum(rate(sluice_record_batch_rows_count[$__rate_interval]))"),
            Panel("Batches not taken", "ops", "failures", "sum(rate(sluice_record_failures_total[$__rate_interval]))"),
        )),
    ),
)  # fmt: skip

SITES = Dashboard(
    "sluice-sites", "Sluice: sites",
    (
        ("What sites do with mail", (
            Panel("Delivered", "ops", "{{site}}",
                  'sum by (site) (rate(sluice_outcomes_total{type="delivered"}[$__rate_interval]))'),
            Panel("Put off by the site, of all attempts", "percentunit", "{{site}}",
                  'sum by (site) (rate(sluice_outcomes_total{type="deferred",'
                  ' category!="throttled"}[$__rate_interval]))'
                  ' / sum by (site) (rate(sluice_outcomes_total{type="attempted"}[$__rate_interval]))'),
            Panel("Bounced, of all that ended", "percentunit", "{{site}}",
                  'sum by (site) (rate(sluice_outcomes_total{type="bounced"}[$__rate_interval]))'
                  ' / sum by (site) (rate(sluice_outcomes_total{type=~"bounced|delivered"}[$__rate_interval]))'),
            Panel("Taken for spam, of all attempts", "percentunit", "{{site}}",
                  'sum by (site) (rate(sluice_outcomes_total{type=~"deferred|bounced",'
                  ' category=~"spam_block|spam_content"}[$__rate_interval]))'
                  ' / sum by (site) (rate(sluice_outcomes_total{type="attempted"}[$__rate_interval]))'),
            Panel("Failures, by category", "ops", "{{site}} {{category}}",
                  "sum by (site, category) (rate(sluice_outcomes_total{"
                  'type=~"deferred|bounced", category!="throttled"}[$__rate_interval]))'),
        )),
        ("What limits them", (
            Panel("Queued", "short", "{{site}}", "sum by (site) (sluice_lane_queued)"),
            Panel("Connections, and most of them", "short", "{{site}}",
                  "sum by (site) (sluice_lane_connections)\nsum by (site) (sluice_lane_connections_max)"),
            Panel("Rate in force", "ops", "{{site}}", "sum by (site) (sluice_lane_rate_per_second)"),
            Panel("Lanes paused", "short", "{{site}}", "sum by (site) (sluice_lanes_paused) > 0"),
            Panel("Lanes", "short", "{{site}}", "sum by (site) (sluice_lanes)"),
        )),
    ),
)  # fmt: skip

PROCESSES = Dashboard(
    "sluice-processes", "Sluice: processes and machines",
    (
        ("Processes", (
            Panel("Up and ready", "short", "{{service}} {{instance}}", "sluice_live\nsluice_ready"),
            Panel("Running for", "s", "{{service}} {{instance}}", f"time() - process_start_time_seconds{_OURS}"),
            Panel("CPU, of what it may use", "percentunit", "{{service}} {{instance}}",
                  f"sum by (service, instance) (rate(process_cpu_seconds_total{_OURS}[$__rate_interval]))"
                  " / sum by (service, instance) (sluice_cpu_limit)"),
            Panel("Kept from running by its quota", "percentunit", "{{service}} {{instance}}",
                  "rate(sluice_cpu_throttled_seconds_total[$__rate_interval])"),
            Panel("Event loop's delay, all but one in a hundred", "s", "{{service}} {{instance}}",
                  "histogram_quantile(0.99, sum by (service, instance, le)"
                  " (rate(sluice_event_loop_delay_seconds_bucket[$__rate_interval])))"),
            Panel("Memory of the process", "bytes", "{{service}} {{instance}}",
                  f"process_resident_memory_bytes{_OURS}"),
            Panel("Memory of the container, and its limit", "bytes", "{{service}} {{instance}}",
                  "sluice_memory_used_bytes\nsluice_memory_limit_bytes"),
            Panel("Open files and sockets, of their limit", "percentunit", "{{service}} {{instance}}",
                  f"process_open_fds{_OURS} / process_max_fds{_OURS}"),
            Panel("Threads", "short", "{{service}} {{instance}}", f"process_threads{_OURS}"),
        )),
        ("Machines", (
            Panel("CPU, by what it does", "short", "{{instance}} {{mode}}",
                  'sum by (instance, mode) (rate(sluice_host_cpu_seconds_total{mode!="idle"}[$__rate_interval]))'),
            Panel("Memory", "bytes", "{{instance}} {{kind}}", "max by (instance, kind) (sluice_host_memory_bytes)"),
            Panel("Time for which tasks stood", "percentunit", "{{instance}} {{resource}} {{tasks}}",
                  "max by (instance, resource, tasks) (rate(sluice_host_pressure_seconds_total[$__rate_interval]))"),
            Panel("Network", "Bps", "{{instance}} {{direction}}",
                  "max by (instance, direction) (rate(sluice_host_network_bytes_total[$__rate_interval]))"),
            Panel("Packets broken or dropped", "ops", "{{instance}} {{direction}}",
                  "max by (instance, direction) (rate(sluice_host_network_errors_total[$__rate_interval]))"),
            Panel("TCP sockets", "short", "{{instance}} {{state}}", "max by (instance, state) (sluice_host_sockets)"),
            Panel("Disk free", "bytes", "{{instance}} {{folder}}",
                  "min by (instance, folder) (sluice_disk_free_bytes)"),
            Panel("Disk free, of its size", "percentunit", "{{instance}} {{folder}}",
                  "min by (instance, folder) (sluice_disk_free_bytes / sluice_disk_size_bytes)"),
        )),
        ("What has to be renewed", (
            Panel("Certificates end in", "s", "{{use}}", "min by (use) (sluice_certificate_expires_seconds)"),
            Panel("The oldest DKIM key is due in", "s", "oldest", "min(sluice_dkim_key_due_seconds)"),
            Panel("DKIM keys", "short", "{{state}}", "max by (state) (sluice_dkim_keys)"),
        )),
    ),
)  # fmt: skip

DASHBOARDS = {"on-call": ON_CALL, "pipeline": PIPELINE, "sites": SITES, "processes": PROCESSES}
"""By the file's name in ``grafana/``."""
