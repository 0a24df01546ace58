"""Deliver: shapes traffic to what each site tolerates and hands mails over by SMTP."""
