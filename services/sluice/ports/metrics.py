"""Every metric that a service may show, by name: what it counts, in which unit, and which question it answers."""

from __future__ import annotations

from sluice.ports.figures import ALL as ALL
from sluice.ports.figures import FAUST as FAUST
from sluice.ports.figures import OTHER as OTHER
from sluice.ports.figures import READERS as READERS
from sluice.ports.figures import SHORT
from sluice.ports.figures import Figure as Figure
from sluice.ports.figures import Figures as Figures
from sluice.ports.figures import Metric as Metric
from sluice.ports.machine_metrics import MACHINE_METRICS

_LATENCY = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)

LIVE = Metric(
    name="sluice.live", kind="gauge", unit="",
    meaning="1 while the process works, 0 when it asks to be restarted; what /healthz says",
    answers="Does it work?",
)  # fmt: skip
READY = Metric(
    name="sluice.ready", kind="gauge", unit="",
    meaning="1 while the process can do its work, 0 while it loads or waits for Kafka or ClickHouse; what /readyz says",
    answers="Does it work?",
)  # fmt: skip
TAKEN = Metric(
    name="sluice.records.taken", kind="counter", unit="{record}", labels=("topic",), services=READERS,
    meaning="Records taken from Kafka; a topic's name ends in the priority, or in the wheel's tier",
    answers="How much comes in, by priority?",
)  # fmt: skip
PUBLISHED = Metric(
    name="sluice.records.published", kind="counter", unit="{record}", labels=("topic",),
    meaning="Records that Kafka has acknowledged; mail.dead are dead letters",
    answers="How much goes on, by priority? Are there dead letters?",
)  # fmt: skip
PUBLISH_FAILED = Metric(
    name="sluice.publish.failures", kind="counter", unit="{record}", labels=("topic",),
    meaning="Records that Kafka did not take within two minutes, or refused; the process stops then",
    answers="Is Kafka well?",
)  # fmt: skip
PUBLISH_QUEUE = Metric(
    name="sluice.publish.queue", kind="gauge", unit="{record}",
    meaning="Records handed to the producer and not acknowledged yet",
    answers="Does Kafka keep up with what is written?",
)  # fmt: skip
PUBLISH_ACK = Metric(
    name="sluice.publish.ack", kind="histogram", unit="s", bounds=SHORT,
    meaning="From handing a record to Kafka's client to its acknowledgement, one record at a time",
    answers="Does Kafka keep up with what is written?",
)  # fmt: skip
PARTITIONS = Metric(
    name="sluice.partitions", kind="gauge", unit="{partition}", services=READERS,
    meaning="Partitions that are this process's, over all its topics",
    answers="Who does the work? Is the group in a rebalance?",
)  # fmt: skip
COMMIT_AGE = Metric(
    name="sluice.commit.age", kind="gauge", unit="s",
    meaning="Since something was last finished, or there was nothing to do",
    answers="Does the work move at all?",
)  # fmt: skip
LAG = Metric(
    name="sluice.lag.records", kind="gauge", unit="{record}", labels=("topic",),
    meaning="Records of this process's partitions beyond the commit; of a wheel's topic, what rests in the tier",
    answers="Is mail late, and before which step does it wait?",
)  # fmt: skip
LAG_AGE = Metric(
    name="sluice.lag.age", kind="gauge", unit="s", labels=("topic",), services=FAUST,
    meaning="Age of the oldest record that was taken and is not finished, to about half a second; since it was stored",
    answers="Is mail late, and before which step does it wait?",
)  # fmt: skip
UNFINISHED = Metric(
    name="sluice.records.unfinished", kind="gauge", unit="{record}", labels=("topic",), services=FAUST,
    meaning="Records in hand: taken, and not everything that follows from them is durable",
    answers="How much would be done again after a crash? Is the bound reached?",
)  # fmt: skip
UNFINISHED_BYTES = Metric(
    name="sluice.records.unfinished.size", kind="gauge", unit="By", labels=("topic",), services=FAUST,
    meaning="Their size",
    answers="What needs the memory?",
)  # fmt: skip
OUTCOMES = Metric(
    name="sluice.outcomes", kind="counter", unit="{outcome}", labels=("type", "category", "priority", "site"),
    services=FAUST,
    meaning="Outcomes written: type and category as in mail.outcome, site as the rules name it",
    answers="What becomes of mail: delivered, deferred, bounced, rejected, and why?",
)  # fmt: skip
DELIVERY = Metric(
    name="sluice.delivery", kind="histogram", unit="s", labels=("priority",), services=("deliver",), bounds=_LATENCY,
    meaning="From accepted (published) to delivered (the site's 250), without the time it was scheduled for",
    answers="Is mail late?",
)  # fmt: skip
DELIVERY_WAITS = Metric(
    name="sluice.delivery.waits", kind="counter", unit="s", labels=("priority", "reason"), services=("deliver",),
    meaning="Where delivered mails spent their time: queue, schedule, rate, connection, retry, or attempt (the SMTP)",
    answers="Why is mail late?",
)  # fmt: skip
PUT_OFF = Metric(
    name="sluice.put.off", kind="counter", unit="{mail}", labels=("priority", "reason"), services=("deliver",),
    meaning="Mails put into the wheel: for a connection, a site_rate, a shared_limit, or to retry after a failure",
    answers="Why is mail late?",
)  # fmt: skip
WAITING = Metric(
    name="sluice.waiting", kind="gauge", unit="{mail}", labels=("reason",), services=("deliver", "wheel"),
    meaning="Mails in memory. Deliver: in a lane's queue, for a shared_limit, under attempt, or other: DNS, Kafka's "
    "acknowledgement. Wheel: for their schedule, a rate, a connection, or to retry",
    answers="Why is mail late?",
)  # fmt: skip
CONNECTIONS = Metric(
    name="sluice.connections", kind="gauge", unit="{connection}", services=("deliver",),
    meaning="SMTP connections open or being opened",
    answers="Are there enough connections?",
)  # fmt: skip
CONNECTIONS_MAX = Metric(
    name="sluice.connections.max", kind="gauge", unit="{connection}", services=("deliver",),
    meaning="Most that this process may have",
    answers="Are there enough connections?",
)  # fmt: skip
LANES = Metric(
    name="sluice.lanes", kind="gauge", unit="{lane}", labels=("site",), services=("deliver",),
    meaning="Lanes that this process serves",
    answers="Who does the work?",
)  # fmt: skip
LANE_QUEUED = Metric(
    name="sluice.lane.queued", kind="gauge", unit="{mail}", labels=("site",), services=("deliver",),
    meaning="Mails that wait in memory for a connection or for the rate",
    answers="Which site is the bottleneck?",
)  # fmt: skip
LANE_CONNECTIONS = Metric(
    name="sluice.lane.connections", kind="gauge", unit="{connection}", labels=("site",), services=("deliver",),
    meaning="Connections that the lanes have",
    answers="Which site is the bottleneck?",
)  # fmt: skip
LANE_CONNECTIONS_MAX = Metric(
    name="sluice.lane.connections.max", kind="gauge", unit="{connection}", labels=("site",), services=("deliver",),
    meaning="Connections that the lanes may have now; not told for other",
    answers="Which site is the bottleneck?",
)  # fmt: skip
LANE_RATE = Metric(
    name="sluice.lane.rate", kind="gauge", unit="{mail}/s", labels=("site",), services=("deliver",),
    meaning="Rate in force now, added up over the lanes; absent for sites without one, and for other",
    answers="Is a site's rate cut?",
)  # fmt: skip
LANES_PAUSED = Metric(
    name="sluice.lanes.paused", kind="gauge", unit="{lane}", labels=("site",), services=("deliver",),
    meaning="Lanes that send nothing now: an operator, a reply, a trigger or failed connections paused them",
    answers="Is a site suspended?",
)  # fmt: skip
REFERENCE_LAG = Metric(
    name="sluice.reference.lag", kind="gauge", unit="{record}", services=FAUST,
    meaning="Records of reference data in Kafka that are not followed yet",
    answers="Does the process know of the latest templates, suppressions and suspensions?",
)  # fmt: skip
REFERENCE_AGE = Metric(
    name="sluice.reference.age", kind="gauge", unit="s", services=FAUST,
    meaning="Since reference data were last known to be complete",
    answers="Does the process know of the latest templates, suppressions and suspensions?",
)  # fmt: skip
WHEEL_RESTING = Metric(
    name="sluice.wheel.resting", kind="gauge", unit="{record}", labels=("tier",), services=("wheel",),
    meaning="Records of the tier held in memory; all that rest are sluice_lag_records of its topic",
    answers="How much waits in the wheel?",
)  # fmt: skip
WHEEL_DUE = Metric(
    name="sluice.wheel.due", kind="gauge", unit="{record}", labels=("within",), services=("wheel",),
    meaning="Those in memory by when they leave their tier: overdue, 10s, 1m, 5m, 1h, later",
    answers="How much comes back, and when?",
)  # fmt: skip
WHEEL_LATENESS = Metric(
    name="sluice.wheel.lateness", kind="histogram", unit="s", services=("wheel",), bounds=_LATENCY,
    meaning="How late records leave their tier: the latest of each turn that let some go",
    answers="Does the wheel keep up?",
)  # fmt: skip
RECORDED = Metric(
    name="sluice.recorded", kind="counter", unit="{outcome}", labels=("type",), services=("record",),
    meaning="Outcomes stored in ClickHouse, also those that others publish: opened, clicked, complained",
    answers="Is what ClickHouse shows up to date?",
)  # fmt: skip
RECORD_ROWS = Metric(
    name="sluice.record.batch.rows", kind="histogram", unit="{row}", services=("record",),
    bounds=(1, 10, 50, 100, 500, 1000, 2500, 5000, 10_000, 25_000),
    meaning="Outcomes in a batch",
    answers="Does ClickHouse get batches worth their cost?",
)  # fmt: skip
RECORD_STORE = Metric(
    name="sluice.record.store", kind="histogram", unit="s", services=("record",), bounds=SHORT,
    meaning="What ClickHouse takes to store a batch",
    answers="Is ClickHouse well?",
)  # fmt: skip
RECORD_DELAY = Metric(
    name="sluice.record.delay", kind="histogram", unit="s", services=("record",), bounds=_LATENCY,
    meaning="From the oldest outcome of a batch to its being stored",
    answers="Is what ClickHouse shows up to date?",
)  # fmt: skip
RECORD_FAILED = Metric(
    name="sluice.record.failures", kind="counter", unit="{batch}", services=("record",),
    meaning="Times that ClickHouse did not take a batch; it is tried again until it does",
    answers="Is ClickHouse well?",
)  # fmt: skip

PROMISE = Metric(
    name="sluice.promise", kind="gauge", unit="s", labels=("priority",),
    meaning="How soon mail of the priority is promised to be delivered, as set; alerts compare with it",
    answers="Is mail late?",
)  # fmt: skip
RULES = Metric(
    name="sluice.rules.info", kind="gauge", unit="", labels=("version",), services=FAUST,
    meaning="1, with the version of the rules in force: the same in all processes that have the same files",
    answers="Do all workers follow the same rules, and the latest?",
)  # fmt: skip
RULES_LOADED = Metric(
    name="sluice.rules.loaded.timestamp", kind="gauge", unit="s", services=FAUST,
    meaning="When the rules in force were taken over, since the epoch",
    answers="Do all workers follow the same rules, and the latest?",
)  # fmt: skip
RULES_REFUSED = Metric(
    name="sluice.rules.refused", kind="gauge", unit="", services=FAUST,
    meaning="1 while what lies in the rules' folder is wrong and the rules before stay in force, else 0",
    answers="Do all workers follow the same rules, and the latest?",
)  # fmt: skip
RULES_REFUSED_AT = Metric(
    name="sluice.rules.refused.timestamp", kind="gauge", unit="s", services=FAUST,
    meaning="When rules were refused last, since the epoch; 0 for never",
    answers="Do all workers follow the same rules, and the latest?",
)  # fmt: skip

METRICS: tuple[Metric, ...] = (
    *(value for value in list(globals().values()) if isinstance(value, Metric)),
    *MACHINE_METRICS,
)
"""All of them."""
