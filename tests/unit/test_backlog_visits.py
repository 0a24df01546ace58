"""A long backlog waits in the wheel once, not in circles: the benchmark, with fewer mails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "backlog_revisits.py"


def test_mails_over_the_rate_wait_in_the_wheel_once_and_the_rate_is_used_to_the_full(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARK), "--mails", "1500", "--rate", "600/min", "--results", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    (kept,) = tmp_path.glob("*-backlog-revisits.json")
    figures = msgspec.json.decode(kept.read_bytes())["figures"]
    assert figures["delivered"] == 1500
    assert figures["attempts_beyond_the_first"] == 0
    assert figures["passes_max"] == 1
    # Of waits up to 150 s, one just below 2 minutes goes through most tiers: three times 30 s, twice 10 s.
    assert figures["hops_max"] == 5
    assert figures["most_in_a_second"] <= 10 + 1
    assert figures["slower_than_ideal"] < 0.01
