"""The fault laboratory: hurt a running Sluice by a plan, then account for every mail by three independent records."""
