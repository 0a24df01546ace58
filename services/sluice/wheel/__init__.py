"""Wheel: every delay in the system, as a hierarchical timing wheel over Kafka topics."""
