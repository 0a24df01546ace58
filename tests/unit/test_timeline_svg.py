"""The pictures of the docs are XML, and what is drawn is where its value says."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from benchmarks.timeline_svg import LEFT, RIGHT, WIDTH, Bars, Line, Panel, Phase, Strips, timeline

SVG = "{http://www.w3.org/2000/svg}"


def drawn(panel: Panel) -> ET.Element:
    return ET.fromstring(timeline("A & B", 100.0, [Phase("<storm>", 20.0, 30.0, True)], [panel]))


def test_names_are_escaped_and_all_there() -> None:
    panel = Panel(title="here", unit="ms", lines=[Line("99 %", "#111111", [(0.0, 1.0)])])
    texts = [element.text for element in drawn(panel).iter(f"{SVG}text")]
    assert {"A & B", "<storm>", "here", "ms", "99 %"} <= set(texts)


def test_a_line_goes_from_edge_to_edge_and_its_highest_point_is_within_the_panel() -> None:
    panel = Panel(title="t", unit="u", lines=[Line("l", "#111111", [(0.0, 0.0), (50.0, 7.0), (100.0, 0.0)])])
    line = drawn(panel).find(f"{SVG}polyline")
    assert line is not None
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert [x for x, _ in points] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    assert 0 < points[0][1] - points[1][1] <= panel.height
    assert points[0][1] == points[2][1]


def test_bars_stand_on_each_other() -> None:
    panel = Panel(
        title="t",
        unit="u",
        bars=[Bars("a", "#aa0000", {3: 2.0}), Bars("b", "#bb0000", {3: 1.0})],
        strips=[Strips("s", "#cc0000", [(1.0, 2.0)])],
    )
    by_colour = {
        element.attrib["fill"]: (float(element.attrib["y"]), float(element.attrib["height"]))
        for element in drawn(panel).iter(f"{SVG}rect")
        if element.attrib.get("fill", "") in ("#aa0000", "#bb0000") and element.attrib["width"] != "11.0"
    }
    upper, lower = by_colour["#bb0000"], by_colour["#aa0000"]
    assert abs(upper[0] + upper[1] - lower[0]) < 0.2
    assert abs(lower[1] - 2 * upper[1]) < 0.2
