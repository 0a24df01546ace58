"""Operator knowledge as data, read by :mod:`sluice.adapters.rules`; a folder of files with these names overrides it."""
