"""What the ``sluice`` command does: one module for each command or group of commands."""
