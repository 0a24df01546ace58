"""SMTP to the world: a pipelining client that knows on which side of the final dot it stands."""

from sluice.adapters.smtp.mailer import SmtpMailer

__all__ = ["SmtpMailer"]
