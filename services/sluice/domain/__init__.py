"""Decisions about mail: functions of values, with no clock, network, log or framework in them."""
