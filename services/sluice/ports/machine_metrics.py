"""Metrics of processes, of the machines that they run on, and of the keys and certificates that they use."""

from __future__ import annotations

from sluice.ports.figures import SHORT, Metric

LOOP_DELAY = Metric(
    name="sluice.event.loop.delay", kind="histogram", unit="s", bounds=SHORT,
    meaning="How much later than asked the event loop came back, looked at four times a second",
    answers="Is the process short of CPU, or does something block it?",
)  # fmt: skip
CERTIFICATE_EXPIRES = Metric(
    name="sluice.certificate.expires", kind="gauge", unit="s", labels=("use",),
    meaning="Until the first certificate of a file that is set ends: kafka_ca, kafka_client, kafka_oauth_ca or "
    "clickhouse_ca; negative once it has",
    answers="What stops working by itself, and when?",
)  # fmt: skip
DKIM_KEY_DUE = Metric(
    name="sluice.dkim.key.due", kind="gauge", unit="s", services=("compose",),
    meaning="Until the oldest DKIM key that a tenant signs with is to be replaced (SLUICE_DKIM_ROTATE_DAYS)",
    answers="What has to be renewed, and when?",
)  # fmt: skip
DKIM_KEYS = Metric(
    name="sluice.dkim.keys", kind="gauge", unit="{key}", labels=("state",), services=("compose",),
    meaning="DKIM keys that tenants sign with: fresh, due to be replaced, or missing in the key folder",
    answers="What has to be renewed, and when?",
)  # fmt: skip
PROCESS_CPU = Metric(
    name="process.cpu", kind="counter", unit="s",
    meaning="CPU time of the process, its own and the kernel's for it",
    answers="Is the process short of CPU, or does something block it?",
)  # fmt: skip
PROCESS_MEMORY = Metric(
    name="process.resident.memory", kind="gauge", unit="By",
    meaning="Memory of the process that is not swapped out",
    answers="What needs the memory?",
)  # fmt: skip
PROCESS_FILES = Metric(
    name="process.open.fds", kind="gauge", unit="{file}",
    meaning="Open files, sockets among them",
    answers="Does it run out of files or connections?",
)  # fmt: skip
PROCESS_FILES_MAX = Metric(
    name="process.max.fds", kind="gauge", unit="{file}",
    meaning="Most files and sockets that the process may have open (ulimit -n)",
    answers="Does it run out of files or connections?",
)  # fmt: skip
PROCESS_THREADS = Metric(
    name="process.threads", kind="gauge", unit="{thread}",
    meaning="Threads of the process",
    answers="Does something leak?",
)  # fmt: skip
PROCESS_STARTED = Metric(
    name="process.start.time", kind="gauge", unit="s",
    meaning="When the process was started, in seconds since 1970",
    answers="Is it started again and again?",
)  # fmt: skip
MEMORY_USED = Metric(
    name="sluice.memory.used", kind="gauge", unit="By",
    meaning="What counts for sluice_memory_limit_bytes: of all processes there, without file cache that can be dropped",
    answers="Will the kernel kill it for memory?",
)  # fmt: skip
MEMORY_LIMIT = Metric(
    name="sluice.memory.limit", kind="gauge", unit="By",
    meaning="The container's limit, of several the one nearest to being reached; without one, the machine's memory",
    answers="Will the kernel kill it for memory?",
)  # fmt: skip
CPU_LIMIT = Metric(
    name="sluice.cpu.limit", kind="gauge", unit="{cpu}",
    meaning="CPUs that the process may use: the container's quota, or those of the machine that it may run on",
    answers="Is the process short of CPU, or does something block it?",
)  # fmt: skip
CPU_THROTTLED = Metric(
    name="sluice.cpu.throttled", kind="counter", unit="s",
    meaning="Time in which the container's quota kept threads from running, added up over CPUs; only with a quota",
    answers="Is the process short of CPU, or does something block it?",
)  # fmt: skip
DISK_FREE = Metric(
    name="sluice.disk.free", kind="gauge", unit="By", labels=("folder",),
    meaning="Free on the disk of a folder: work, temporary, or a name in SLUICE_DISKS; a disk is told once",
    answers="Does a disk fill up?",
)  # fmt: skip
DISK_SIZE = Metric(
    name="sluice.disk.size", kind="gauge", unit="By", labels=("folder",),
    meaning="Size of that disk",
    answers="Does a disk fill up?",
)  # fmt: skip
HOST_CPU = Metric(
    name="sluice.host.cpu", kind="counter", unit="s", labels=("mode",),
    meaning="CPU time of the machine, all CPUs together: user, system, iowait, steal (taken by its host) or idle",
    answers="Is the machine busy?",
)  # fmt: skip
HOST_MEMORY = Metric(
    name="sluice.host.memory", kind="gauge", unit="By", labels=("kind",),
    meaning="Memory of the machine: total, and available without swapping",
    answers="Is the machine busy?",
)  # fmt: skip
HOST_PRESSURE = Metric(
    name="sluice.host.pressure", kind="counter", unit="s", labels=("resource", "tasks"),
    meaning="Time in which some, or all, tasks stood for want of cpu, memory or io: of the container, else the machine",
    answers="Is the machine busy?",
)  # fmt: skip
HOST_NETWORK = Metric(
    name="sluice.host.network", kind="counter", unit="By", labels=("direction",),
    meaning="Received and sent by all network interfaces but the loopback",
    answers="Is the network busy, or broken?",
)  # fmt: skip
HOST_NETWORK_ERRORS = Metric(
    name="sluice.host.network.errors", kind="counter", unit="{packet}", labels=("direction",),
    meaning="Packets that were broken, or dropped for want of room",
    answers="Is the network busy, or broken?",
)  # fmt: skip
HOST_SOCKETS = Metric(
    name="sluice.host.sockets", kind="gauge", unit="{socket}", labels=("state",),
    meaning="TCP sockets: in_use, time_wait (closed, their ports not free yet), orphaned (closed, not all sent)",
    answers="Does it run out of files or connections?",
)  # fmt: skip

MACHINE_METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them."""
