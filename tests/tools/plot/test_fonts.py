"""Text that the font of matplotlib lacks is drawn with another font, where there is one."""

import logging

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from tests.tools.plot.test_any_series import metrics_run
from tests.tools.plot.test_plot import texts
from tools.plot import fonts
from tools.plot.figure import draw, encode
from tools.plot.theme import clean

NAME = "学習率"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A font that was installed after matplotlib had made its list of fonts."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for place in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(place)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"uni{ord(c):04X}" for c in NAME)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): name for c, name in zip(NAME, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Noto Sans CJK JP", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cjk.ttf")
    known = [font for font in fontManager.ttflist if font.name not in fonts.FALLBACKS]
    monkeypatch.setattr(fontManager, "ttflist", known)
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "cjk.ttf")])
    _forget()
    yield
    _forget()


def _forget():
    fonts._look_again.cache_clear()
    fonts._font.cache_clear()
    fontManager._findfont_cached.cache_clear()


def test_text_is_drawn_with_a_font_that_has_it(installed, caplog, capfd):
    with caplog.at_level(logging.WARNING):
        figure = draw([metrics_run(f"{NAME}한", **{NAME: [1.0, 2.0]})], metrics=[NAME])
        encode(figure, "png")

    assert f"{NAME}□" in texts(figure)
    assert figure.axes[0].get_ylabel() == NAME
    assert (caplog.messages, capfd.readouterr().err) == ([], "")


def test_without_such_a_font_each_character_is_a_box_and_there_is_no_warning(
    installed, monkeypatch, capfd
):
    monkeypatch.setattr(fonts, "findSystemFonts", list)

    figure = draw([metrics_run(NAME, x=[1.0, 2.0])], metrics=["x"])
    encode(figure, "png")

    assert clean(NAME) == "□□□"
    assert "□□□" in texts(figure)
    assert capfd.readouterr().err == ""


def test_a_font_file_that_cannot_be_read_is_passed_over(installed, monkeypatch, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "broken.ttf")])

    fonts.find_for([NAME])

    assert fonts.families() == [fonts.FONT]
