"""The fonts of plots: one that comes with matplotlib, and for characters that it lacks, such as
Chinese, Japanese and Korean ones, those that the machine has.
"""

import logging
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import findfont, findSystemFonts, fontManager, get_font
from matplotlib.ft2font import FT2Font

FONT = "DejaVu Sans"  # comes with matplotlib: the same plot on every machine
FALLBACKS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR",
    "Noto Sans JP", "Noto Sans SC", "Noto Sans TC", "Noto Sans KR",
    "Source Han Sans", "Source Han Sans SC", "Source Han Sans JP",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "AR PL UMing CN", "Droid Sans Fallback",
    "IPAexGothic", "IPAGothic", "TakaoGothic", "VL Gothic", "NanumGothic", "UnDotum",
    "Hiragino Sans", "Hiragino Sans GB", "PingFang SC", "Heiti TC", "Apple SD Gothic Neo",
    "Microsoft YaHei", "SimHei", "MS Gothic", "Yu Gothic", "Meiryo", "Malgun Gothic",
    "Arial Unicode MS", "Unifont", "Noto Emoji", "Symbola",
)  # fmt: skip
"""In this order; each is used for the characters that those before it lack."""


def families() -> list[str]:
    """The fonts that the texts of a plot may use."""
    known = {font.name for font in fontManager.ttflist}
    return [FONT, *(name for name in FALLBACKS if name in known)]


def find_for(texts: Iterable[str]) -> None:
    """Find a font for each character, also one that was installed since matplotlib looked."""
    if any(ord(c) > 127 and not has_glyph(c) for text in texts for c in text):
        _look_again()


def has_glyph(character: str) -> bool:
    """Whether a font of `families` has it."""
    return any(font.get_char_index(ord(character)) for font in map(_font, families()))


@cache
def _look_again() -> None:
    known = {font.fname for font in fontManager.ttflist}
    for path in findSystemFonts():
        if path not in known:
            try:
                fontManager.addfont(path)
            except (OSError, RuntimeError, ValueError):  # not a font that can be read
                continue


def _is_of_weight(record: logging.LogRecord) -> bool:
    """Whether a message says that a font has no bold: it is used as it is."""
    return "Failed to find font weight" in str(record.msg)


logging.getLogger("matplotlib.font_manager").addFilter(lambda record: not _is_of_weight(record))


@cache
def _font(family: str) -> FT2Font:
    return get_font(findfont(family))
