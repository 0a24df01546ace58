"""Sluice: a distributed mail delivery pipeline on Kafka."""

__version__ = "0.1.0"
