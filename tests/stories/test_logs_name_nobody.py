"""Whatever becomes of a mail, no address and no secret gets into a log."""

import re
import uuid

import pytest
from tests.support.stack import Stack, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ADDRESS = re.compile(rb"[^\s\"'<>=,;:]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]{2,}", re.IGNORECASE)
LINE_OF_KEY = 40
"""Characters of a key's text that are looked for."""


def test_no_log_names_an_address_or_holds_a_key(stack: Stack) -> None:
    """All that the services wrote so far, in other stories too, and after mails that fail in every way."""
    mark = uuid.uuid4().hex
    delivered = stack.send(to=[stack.address()])
    bounced = stack.send(to=[stack.address("+bounce")])
    put_off = stack.send(to=[stack.address("+defer1")])
    rejected = stack.publish(to=[{"email": f"{mark}@not an address"}])
    stack.produce("mail.send.normal", f'{{"to": "{mark}@story.example", "message_id": '.encode())
    stack.produce("mail.ready.normal", f"To: {mark}@story.example\r\n\r\n".encode())
    for message_id, ending in ((delivered, "delivered"), (bounced, "bounced"), (put_off, "delivered")):
        stack.until(message_id, ending)
    stack.until(rejected, "rejected")
    wait_for(lambda: stack.dead_letters(mark), lambda count: count >= 2, 30, "the dead letters")

    written = {file.name: file.read_bytes() for file in stack.local.folder.logs.iterdir() if "kafka" not in file.name}
    assert {"compose-1.log", "deliver-1.log", "wheel-1.log", "record-1.log"} <= set(written)
    assert all(written[name] for name in ("compose-1.log", "deliver-1.log"))
    keys = [file.read_bytes() for file in stack.local.folder.keys.rglob("*") if file.is_file()]
    lines = [line for key in keys for line in key.splitlines() if len(line) >= LINE_OF_KEY and b"-----" not in line]
    assert lines, "there is no key to look for"
    for name, text in written.items():
        assert ADDRESS.findall(text) == [], name
        assert mark.encode() not in text, name
        for line in lines:
            assert line[:LINE_OF_KEY] not in text, name
