"""What an attachment must be to travel."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from sluice.domain.addresses import ATEXT
from sluice.domain.errors import Refused
from sluice.domain.events import Attachment
from sluice.domain.headers import check_text

_content_type = re.compile(rf"[{ATEXT}.]+/[{ATEXT}.]+")
_content_id = re.compile(rf"[{ATEXT}.]+(?:@[{ATEXT}.]+)?")


def check_attachments(attachments: Sequence[Attachment]) -> int:
    """The attachments' total size in octets, decoded. Raises :class:`Refused` for the first thing wrong with one."""
    for position, attachment in enumerate(attachments):
        field = f"attachments[{position}]"
        name = attachment.filename
        check_text(name, f"{field}.filename")
        if "/" in name or "\\" in name or name in (".", ".."):
            raise Refused(f"{field}.filename", "is a path, not the name of a file", "attachment")
        if not _content_type.fullmatch(attachment.content_type):
            raise Refused(f"{field}.content_type", "is not a media type", "injection")
        # RFC 2046 forbids base64 for these, and structure from outside is structure that scanners read differently.
        if attachment.content_type.lower().startswith(("multipart/", "message/")):
            reason = "multipart and message types cannot be attached; use application/octet-stream"
            raise Refused(f"{field}.content_type", reason, "attachment")
        if attachment.content_id is not None and not _content_id.fullmatch(attachment.content_id):
            raise Refused(f"{field}.content_id", "is not a content id (like logo@example.com)", "injection")
        if attachment.sha256 and hashlib.sha256(attachment.content).hexdigest() != attachment.sha256:
            raise Refused(f"{field}.sha256", "does not match the content", "attachment")
    return sum(len(attachment.content) for attachment in attachments)
