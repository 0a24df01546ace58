"""Configuration, wiring and lifecycle: the only place that reads the environment and builds adapters."""
