"""Long names of series and runs in a few columns of the screen."""

from collections.abc import Sequence
from itertools import takewhile

from rich.cells import cell_len, set_cell_size


def shortened(name: str, width: int, beside: Sequence[str] = ()) -> str:
    """A name in `width` columns: its beginning, its end, and where it differs from others.

    `grad/layers.12.attn.q_proj.weight` beside `grad/layers.13.attn.q_proj.weight` is
    `grad/laye…12…oj.weight` in 22 columns.
    """
    if cell_len(name) <= width:
        return name
    if width < 1:
        return ""
    n = width - 1
    begin, end = _begin(name, n // 3), _end(name, n - n // 3)
    first, last = _difference(name, beside)
    if first >= last or last <= len(begin) or first >= len(name) - len(end):
        return f"{begin}…{end}"  # the difference is visible
    part = name[first:last]
    rest = width - 2 - cell_len(part)
    begin, end = _begin(name, max(0, rest // 2)), _end(name, rest - rest // 2)
    if len(begin) >= first:
        begin = _begin(name, max(width // 3, min(width - 1, cell_len(name[:last]))))
        return f"{begin}…{_end(name, width - 1 - cell_len(begin))}"
    if len(name) - len(end) <= last:
        end = _end(name, max(width // 3, min(width - 1, cell_len(name[first:]))))
        return f"{_begin(name, width - 1 - cell_len(end))}…{end}"
    return f"{begin}…{part}…{end}" if rest >= 0 else f"{_begin(part, width - 1)}…"


def _difference(name: str, beside: Sequence[str]) -> tuple[int, int]:
    """The part of a name in which it differs from the most similar other one, numbers whole."""
    first = last = similar = 0
    for other in beside:
        if other == name:
            continue
        n_begin = _n_equal(name, other)
        room = min(len(name), len(other)) - n_begin
        n_end = min(room, _n_equal(name[::-1], other[::-1]))
        if n_begin + n_end > similar:
            first, last, similar = n_begin, len(name) - n_end, n_begin + n_end
    while first and name[first - 1].isdigit():
        first -= 1
    while last < len(name) and name[last].isdigit():
        last += 1
    return first, last


def _n_equal(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _begin(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width)


def _end(text: str, width: int) -> str:
    end = text[-width:] if width > 0 else ""
    while cell_len(end) > max(0, width):
        end = end[1:]
    return end
