"""Kafka, ClickHouse and a receiving mail server on this machine, from Python packages alone."""
