"""Pictures of what a terminal shows."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from benchmarks.terminal_pictures import draw

SVG = "{http://www.w3.org/2000/svg}"


def test_a_picture_holds_the_command_and_what_it_showed_and_fetches_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "it.svg"
    draw("sluice watch", "delivered   ▁▃█ 12", picture, 40)
    text = picture.read_text(encoding="utf-8")
    words = "".join(each.text or "" for each in ET.fromstring(text).iter(f"{SVG}text")).replace("\xa0", " ")
    assert "$ sluice watch" in words
    assert "delivered   ▁▃█ 12" in words
    assert "url(http" not in text
    assert "@font-face" not in text


def test_a_picture_with_an_address_in_it_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an address"):
        draw("sluice mail", "to jo@oak.example", tmp_path / "it.svg")
    assert not (tmp_path / "it.svg").exists()
