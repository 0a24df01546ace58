"""Compose: admits send events, renders and signs what they ask for, and hands the mails to their lanes."""
