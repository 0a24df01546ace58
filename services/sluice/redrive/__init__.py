"""Driving mails again: plans, and the drivers that go through them."""
