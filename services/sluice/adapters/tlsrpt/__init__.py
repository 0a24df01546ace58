"""Reports of SMTP TLS reporting by HTTPS (RFC 8460 section 5.4)."""

from sluice.adapters.tlsrpt.post import PostFailed, ReportPoster

__all__ = ["PostFailed", "ReportPoster"]
