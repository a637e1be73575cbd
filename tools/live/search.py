"""Series found by name: `val/* lr` as a person types it on the page and in the terminal."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..core.series import is_wild


def search(names: Iterable[str], text: str) -> list[str]:
    """The names that `text` selects, in their order: a whole name, or what its words select.

    A word is a name, a pattern with wildcards, or else a part of a name, in upper or lower case.
    Of an evaluation's name `eval/` may be left out. All of the text may be a regular expression
    between slashes, in RE2's syntax: `/layer[0-9]+.norm$/`. A malformed one selects nothing.
    """
    known = dict.fromkeys(names)
    if len(text) > 2 and text[0] == text[-1] == "/" and text not in known:
        return _matching(list(known), text[1:-1])
    words = [text] if text in known else text.split()
    chosen: set[str] = set()
    for word in words:
        if word in known or f"eval/{word}" in known:
            chosen |= {word, f"eval/{word}"}
        elif is_wild(word):
            chosen |= {n for n in known if _matches(n, word)}
        else:
            chosen |= {n for n in known if word.lower() in n.lower()}
    return [name for name in known if name in chosen]


def _matching(names: list[str], expression: str) -> list[str]:
    """By RE2, whose time is linear: Python's own takes hours for `(a+)+$`, and holds its lock."""
    import pyarrow
    import pyarrow.compute

    try:
        is_match = pyarrow.compute.match_substring_regex(pyarrow.array(names, "string"), expression)
    except pyarrow.ArrowInvalid:
        return []
    return [name for name, found in zip(names, is_match.to_pylist(), strict=True) if found]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removeprefix("eval/"), pattern)
