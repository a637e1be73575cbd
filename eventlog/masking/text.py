"""Credentials within a text, by their shape or their name: `--api-key abc`, headers.

mask_text("HF_TOKEN=abc python t.py --api-key k")      'HF_TOKEN=*** python t.py --api-key ***'
"""

import re
from functools import lru_cache

from eventlog.masking.formats import MASK
from eventlog.masking.names import (
    ALWAYS,
    IF_NO_WORD,
    NEVER,
    PROSE,
    Masking,
    is_credential,
    may_have_name,
    strength,
)
from eventlog.masking.rules import masked_shapes

CACHED_CHARACTERS = 100  # shorter texts repeat: the phase of a row, a unit

_QUOTE = r"\\{0,3}[\"'`]"
_NAME = re.compile(
    rf"""(?x) (?<![\w.\-]) (?:
      (?P<name> (?:(?i:access|account|api|auth|private|refresh|secret|session)[ ])?
        [\w.\-]{{2,128}}+ )
      (?P<assigned> (?:{_QUOTE})? \]? [ \t]{{0,8}} (?: => | := | [:=：] ) [ \t]{{0,8}} )
    | (?<=<) (?:\w{{1,32}}:)? (?P<element> [\w.\-]{{2,128}}+ ) (?:[ ][^<>]{{0,200}})? >
    | -{{1,2}}(?P<flag> [A-Za-z] [\w.\-]{{1,128}}+ ) (?: (?:{_QUOTE})? ,? [ \t]{{1,4}} )
      (?!{_QUOTE}?-)
    )"""
)
_SCHEME = (
    r"(?i:aws4-hmac-sha256|basic|bearer|token|digest|apikey|negotiate|ssws"
    r"|key(?=[ \t]{1,4}\S{0,64}\d))[ \t]{1,4}"
)
_QUOTED = tuple(
    re.compile(
        rf"(?s)[bBfFrRuU]{{0,2}}{q}(?:{_SCHEME})?(?P<value>(?:[^\\{q}]|\\.){{0,20000}}+)(?={q})"
    )
    for q in "\"'`"
)
_IN_ESCAPED_QUOTES = re.compile(
    rf"\\{{1,3}}[\"'](?:{_SCHEME})?(?P<value>[^\"'\\]{{0,20000}}+)(?=\\)"
)
# A comma, a semicolon or an ampersand ends a value if something like the next one follows it.
_BARE = re.compile(
    rf"(?:{_SCHEME})?(?P<value>"
    r"(?:[^\s\"'`;,&]|[;,&](?![\s\"'`]|[\w.\- ]{1,40}[=:]|$)){1,20000}+)"
)
_ELEMENT = re.compile(r"[^<]{1,20000}+(?=</)")
_PAIR = r"[^\s=;,\"']{1,100}=[^\s;\"']{0,4096}+"
_PAIRS = re.compile(rf"(?P<value>{_PAIR}(?:;[ ]?{_PAIR}){{0,100}}+)")
_NAMED_VALUE = (
    re.compile(  # <input name="password" value="..."> and {"name": "HF_TOKEN", "value": "..."}
        r"""\b(?:name|key|id|variable|header)["']?[ ]?[:=][ ]?["'](?P<name>[\w.\-]{2,128})["']"""
        r"""[^<>{}]{0,200}?\bvalue["']?[ ]?[:=][ ]?["'](?P<value>[^"'<>]{1,4096})(?=["'])"""
    )
)
_CALL = re.compile(  # setdefault("HF_TOKEN", "..."), get("api_key", "...")
    r"""\((?P<sets>(?<=default\()|(?<=setenv\()|(?<=putenv\()|)\s{0,8}\\?["']"""
    r"""(?P<name>[\w.\-]{2,128})\\?["']\s{0,4},\s{0,16}\\?["'](?P<value>[^\s"'\\]{1,4096})"""
    r"""(?=\\?["'])"""
)
_SETTING = re.compile(  # aws configure set aws_secret_access_key ...
    r"""onfig(?:ure)?[ ]set[ ](?P<name>[\w.\-/:]{2,128})[ ]["']?(?P<value>[^\s"']{1,4096})"""
)
_CLOSING = ")]},;."
_OPENING = {")": "(", "]": "[", "}": "{"}
_NAME_MAX = 128


def mask_text(text: str, masking: Masking | None = None) -> str:
    """A text without credentials."""
    masking = masking or Masking.from_environment()
    if len(text) <= CACHED_CHARACTERS:
        return _short_text(text, masking)
    return _text(text, masking)


@lru_cache(maxsize=2048)
def _short_text(text: str, masking: Masking) -> str:
    return _text(text, masking)


def _text(text: str, masking: Masking) -> str:
    if not masking.enabled or len(text) < 4:
        return text
    masked = masked_shapes(text)
    if (
        "=" in masked
        or ":" in masked
        or "-" in masked
        or "(" in masked
        or "</" in masked
        or "onfig" in masked
        or not masked.isascii()
    ):
        masked = _masked_named(masked, masking)
    return text if masked == text else masked


def _masked_named(text: str, masking: Masking) -> str:
    """`text` without the values that follow the name of a credential."""
    if not masking.names and not may_have_name(text):
        return text
    if "value" in text:
        text = _NAMED_VALUE.sub(lambda match: _named_value(match, masking, ALWAYS), text)
    if "(" in text:
        text = _CALL.sub(lambda match: _argument_of_call(match, masking), text)
    if "onfig" in text:
        text = _SETTING.sub(lambda match: _named_value(match, masking, IF_NO_WORD), text)
    pieces: list[str] = []
    done = at = 0
    while match := _NAME.search(text, at):
        at = match.end()
        name = match["name"] or match["flag"] or match["element"]
        how = strength(name, masking)
        if how == NEVER:
            continue
        if name.startswith("--") and name.lower().endswith("token"):  # a flag takes a credential
            how = ALWAYS
        value = _element(text, at) if match["element"] else _value(text, at, name)
        if value is None or not _is_credential_at(text, value, how):
            continue
        begin, end = value
        pieces += text[done:begin], MASK
        done = at = end
    return "".join(pieces) + text[done:] if pieces else text


def _argument_of_call(match: re.Match[str], masking: Masking) -> str:
    if strength(match["value"], masking) != NEVER or match["value"].startswith("-"):
        return match[0]  # a list of names or flags
    return _named_value(match, masking, IF_NO_WORD if match["sets"] is None else ALWAYS)


def _named_value(match: re.Match[str], masking: Masking, most: int) -> str:
    if not is_credential(match["value"], min(most, strength(match["name"], masking))):
        return match[0]
    return match[0][: match.start("value") - match.start()] + MASK


def _value(text: str, at: int, name: str) -> tuple[int, int] | None:
    """The span of the value at `at`, without its quotes and the scheme of a header."""
    if text.startswith("//", at):  # secret://name; a search for its end, and then for a name within
        return None  # it, would take 20,000 steps for each part of `token://token://...`
    for quoted in (*_QUOTED, _IN_ESCAPED_QUOTES):
        if match := quoted.match(text, at):
            return match.span("value")
    match = _PAIRS.match(text, at) if name.lower().endswith("cookie") else None
    match = match or _BARE.match(text, at)
    if match is None:
        return None
    begin, end = match.span("value")
    while end > begin and text[end - 1] in _CLOSING:
        opening = _OPENING.get(text[end - 1])
        if opening and opening in text[begin : min(end, begin + _NAME_MAX)]:  # ${NAME}
            break
        end -= 1
    return (begin, end) if end > begin else None


def _element(text: str, at: int) -> tuple[int, int] | None:
    """The span of the text of an XML element."""
    match = _ELEMENT.match(text, at)
    return match.span() if match else None


def _is_credential_at(text: str, span: tuple[int, int], how: int) -> bool:
    """Whether a value is a credential, and not a word of a sentence or the URL of a secret."""
    begin, end = span
    value = text[begin:end]
    if value.startswith("//"):  # secret://name
        return False
    is_bare = text[begin - 1 : begin] not in ("'", '"', "`")
    if is_bare and text[begin - 1 : begin].isspace() and value.lower() in PROSE:
        return False
    return is_credential(value, how)
