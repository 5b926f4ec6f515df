"""What is drawn is where it should be: scales, marks that say their values, nothing of what is no number."""

import math
import re
from xml.etree import ElementTree

import pytest

from reports.charts import (
    HEIGHT,
    LONGEST,
    WIDTH,
    Line,
    Row,
    bars_svg,
    dots_svg,
    from_zero,
    linear,
    lines_svg,
    log_lines_svg,
    logarithmic,
    plain,
    round_ticks,
    short,
    slug,
)
from reports.figures import bar_figure, in_file, on_page

SVG = "{http://www.w3.org/2000/svg}"


def drawn(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def circles(text: str) -> list[tuple[float, float, str]]:
    return [
        (float(mark.get("cx")), float(mark.get("cy")), mark.find(f"{SVG}title").text)
        for mark in drawn(text).iter(f"{SVG}circle")
    ]


def test_a_linear_scale_keeps_proportions():
    scale = linear([2.0, 4.0], 100.0, 300.0)
    assert scale.low < 2 < 4 < scale.high
    assert scale.at(3) == pytest.approx(200)
    assert scale.at(4) - scale.at(3) == pytest.approx(scale.at(3) - scale.at(2))
    assert from_zero([5.0], 0.0, 1.0).at(0.0) == 0.0


def test_a_logarithmic_scale_keeps_ratios():
    scale = logarithmic([32, 64, 128, 256], 100.0, 300.0)
    gaps = [scale.at(2 * value) - scale.at(value) for value in (32, 64, 128)]
    assert gaps == pytest.approx([gaps[0]] * 3)
    assert scale.ticks == (32, 64, 128, 256)
    assert logarithmic([0.31, 770.5], 0.0, 1.0).ticks == (1, 10, 100)


@pytest.mark.parametrize("ends", [(0, 1), (0, 1500), (0.31, 0.34), (-75, 75), (1e6, 9e6)])
def test_ticks_are_few_round_and_inside(ends):
    ticks = round_ticks(*ends)
    assert 3 <= len(ticks) <= 8
    assert ends[0] <= ticks[0]
    assert ticks[-1] <= ends[1]
    step = ticks[1] - ticks[0]
    assert f"{step:.6e}"[:8] in ("1.000000", "2.000000", "5.000000")
    assert [tick / step for tick in ticks] == pytest.approx([round(t / step) for t in ticks])


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [math.nan, 2.0]])
def test_scales_hold_what_little_there_is(values):
    for scale in (linear(values, 0.0, 1.0), from_zero(values, 0.0, 1.0)):
        assert scale.high > scale.low
        assert scale.ticks


def test_marked_points_are_where_their_values_are_and_say_them():
    line = Line("jax", [1, 2, 4], [10.0, 20.0, 40.0], None, "-", "some way", True)
    found = circles(lines_svg("c", [line], ("x", "y")))
    assert [title for *_, title in found] == [
        "JAX, some way: 10 at 1",
        "JAX, some way: 20 at 2",
        "JAX, some way: 40 at 4",
    ]
    (x1, y1, _), (x2, y2, _), (x4, y4, _) = found
    assert x4 - x2 == pytest.approx(2 * (x2 - x1), abs=0.2)
    assert y4 - y2 == pytest.approx(2 * (y2 - y1), abs=0.2)
    assert y4 < y1  # up is more
    (x1, y1, _), (x2, y2, _), (x4, y4, _) = circles(log_lines_svg("c", [line], ("x", "y")))
    assert x4 - x2 == pytest.approx(x2 - x1, abs=0.2)
    assert y4 - y2 == pytest.approx(y2 - y1, abs=0.2)


def test_what_is_no_number_is_not_drawn():
    band = ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    line = Line("tf", [1, 2, 3], [1.5, math.nan, 1.6], band, "-", "", True)
    text = lines_svg("c", [line], ("x", "y"))
    assert "nan" not in text
    assert len(circles(text)) == 2


def test_a_long_line_tells_some_of_its_points():
    line = Line("tf", range(300), range(300))
    found = circles(lines_svg("c", [line], ("x", "y")))
    assert 20 <= len(found) <= 24
    assert found[1][2] == "TensorFlow: 13 at 13"


def test_a_bar_is_as_long_as_its_value_and_shows_its_range():
    rows = [
        Row("one", "tf", [10.0], (8.0, 12.0)),
        Row("two", "jax", [20.0], faint=True, facets=(("precision", "float32"),)),
    ]
    one, two = (mark for mark in drawn(bars_svg("c", rows, "images/s")).iter(f"{SVG}g"))
    widths = [float(bar.find(f"{SVG}rect").get("width")) for bar in (one, two)]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert one.find(f"{SVG}title").text == "one: 10 (8 to 12)"
    (low, _), (high, _) = (
        map(float, point.split(","))
        for point in one.find(f"{SVG}polyline").get("points").split(" ")
    )
    start, each = float(one.find(f"{SVG}rect").get("x")), widths[0] / 10
    assert (low, high) == pytest.approx((start + 8 * each, start + 12 * each), abs=0.2)
    assert two.find(f"{SVG}polyline") is None
    assert two.get("data-precision") == "float32"
    assert two.find(f"{SVG}rect").get("fill-opacity") < one.find(f"{SVG}rect").get("fill-opacity")


def test_dots_stand_beside_their_mean():
    found = circles(dots_svg("c", [Row("one", "tf", [0.1, 0.3])], "RMSE"))
    strokes = [
        tuple(map(float, re.split("[ ,]", mark.get("points"))))
        for mark in drawn(dots_svg("c", [Row("one", "tf", [0.1, 0.3])], "RMSE")).iter(
            f"{SVG}polyline"
        )
        if mark.get("stroke-width") == "1.4"
    ]
    assert strokes[0][0] == pytest.approx((found[0][0] + found[1][0]) / 2, abs=0.2)
    assert found[0][2] == "one: 0.1000"


def test_nothing_lies_outside_the_drawing():
    lines = [Line(name, [32, 64, 128], [200, 5, 90], None, "-", "", True) for name in ("tf", "jax")]
    for text in (lines_svg("c", lines, ("x", "y")), log_lines_svg("c", lines, ("x", "y"))):
        *_, height = map(float, drawn(text).get("viewBox").split())
        assert height > HEIGHT
        for x, y, _ in circles(text):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= height


def test_colours_are_names_until_a_page_has_them():
    svg = bar_figure("b", "c", [Row("one", "torch", [1.0])], "s", [1]).svg
    page, file = on_page(svg), in_file(svg)
    assert "var(--torch)" in page
    assert "currentColor" in page
    assert not re.search(r"#0102|#0072b2", page)
    assert "#0072b2" in file
    assert not re.search(r"#0102|var\(", file)


def test_names_and_labels_of_anything():
    hostile = Row('<b>"x" & y</b>', "tf", [1.0])
    assert drawn(bars_svg('a "c" <d>', [hostile], "<axis>")).get("aria-label") == 'a "c" <d>'
    assert len(short("x" * 80)) == LONGEST
    assert slug("image size (px)") == "image-size-px"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2560.0, "2,560"), (0.123456, "0.1235"), (1e-6, "1.000e-06"), (853.333, "853.3"), (0.0, "0")],
)
def test_values_are_told_plainly(value, text):
    assert plain(value) == text
