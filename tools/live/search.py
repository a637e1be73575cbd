"""Series found by name: `val/* lr` as a person types it on the page and in the terminal."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ..core.series import is_wild


def search(names: Iterable[str], text: str) -> list[str]:
    """The names that `text` selects, in their order: a whole name, or what its words select.

    A word is a name, a pattern with wildcards, or else a part of a name, in upper or lower case.
    Of an evaluation's name `eval/` may be left out.
    """
    known = dict.fromkeys(names)
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


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.removeprefix("eval/"), pattern)
