"""Twins of the ports without anything outside: they keep the ports' promises, in memory."""
