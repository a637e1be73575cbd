"""What credentials look like, in any text.

One table, RULES: a name, hints without which the pattern is not tried, the pattern, and its
replacement. `formats` has the tokens that need no more than a prefix, a row each.

A pattern takes time linear in the text: it begins where the characters of its own repetition
cannot precede it, or its repetitions are bounded, or nothing can fail after them.
"""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from typing import NamedTuple

from eventlog.masking.formats import MASK, is_of_names, masked_tokens
from eventlog.masking.names import IF_NO_WORD, PROSE, is_credential


class Rule(NamedTuple):
    """A kind of credential."""

    name: str
    hints: tuple[str, ...]
    """Every such text contains one of these."""
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]
    needs: str = ""
    """Every such text contains this as well."""


PASSWORD_FLAGS = (
    # a part of its name, a program, its flag for a password, whether `-p` may be one as well
    ("mysql", r"mysql[\w-]{0,16}", "-p", True),
    ("maria", r"maria[\w-]{0,16}", "-p", True),
    ("mongo", r"mongo[\w-]{0,16}", "-p ?", True),
    ("sshpass", "sshpass", "-p ?", True),
    ("redis-cli", "redis-cli", "-a ", False),
    ("ldap", r"ldap\w{3,16}", "-w ?", False),
    ("mosquitto_", "mosquitto_(?:pub|sub|rr)", "-P ", False),
    ("ipmitool", "ipmitool", "-P ", False),
    ("sqlcmd", "sqlcmd", "-P ?", False),
    ("bcp", "bcp", "-P ?", False),
    ("tsql", "tsql", "-P ", False),
    ("zip", "(?:un)?zip", "-P ?", False),
    ("7z", "7z[arz]?", "-p", False),
    ("rar", "(?:un)?rar", "-h?p", False),
    ("lftp", "lftp", r"-u [^\s,\"']{1,64},", False),
    ("smb", "smb(?:client|get)", r"-U ?[^\s%\"']{1,64}%", False),
    ("rpcclient", "rpcclient", r"-U ?[^\s%\"']{1,64}%", False),
)
"""Programs with a password after a flag whose name does not say so."""
_KEEP = rf"\g<keep>{MASK}"


def _basic(match: re.Match[str]) -> str:
    """A basic-auth header, if the value really decodes to a user and a password."""
    try:
        decoded = b64decode(match["value"] + "==")
    except (NotBase64, ValueError):
        return match[0]
    is_login = b":" in decoded and all(32 <= byte < 127 for byte in decoded)
    return match["keep"] + MASK if is_login else match[0]


def _aws_secret(match: re.Match[str]) -> str:
    value = match[0]
    mixed = all(any(test(c) for c in value) for test in (str.isupper, str.islower, str.isdigit))
    return MASK if mixed else value


def _bearer(match: re.Match[str]) -> str:
    value = match["value"]
    is_token = len(value) >= 24 or not value.isalpha()
    return match["keep"] + MASK if is_token else match[0]


def _login_without_scheme(match: re.Match[str]) -> str:
    """The password of `user:password@host:5432/`, unless the user is a word as `email`."""
    user = _USER_BEFORE.search(match.string, max(0, match.start() - 65), match.start())
    if (
        user is None
        or _NO_USERS.fullmatch(user[1])
        or not is_credential(match["value"], IF_NO_WORD)
    ):
        return match[0]
    return match["keep"] + MASK


def _unless_names(match: re.Match[str]) -> str:
    return match[0] if is_of_names(match["value"]) else match["keep"] + MASK


def _in_sentence(match: re.Match[str]) -> str:
    """A password or a token of a sentence, unless it is one of its words, a number or a path."""
    value = match["value"].rstrip(".,;:!?)]}")
    if value.lower() in PROSE or not _MIXED.match(value):
        return match[0]
    if not match["password"] and (is_of_names(value) or not _LONG_KEY.fullmatch(value)):
        return match[0]
    return match["keep"] + MASK + match["value"][len(value) :]


RULES = (
    Rule(
        "private key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[^-]|-(?!----)){0,20000}+(?:-----END[A-Z0-9 ]{0,60}-----)?"
        ),
        MASK,
    ),
    Rule(
        "private key of PuTTY",
        ("Private-Lines",),
        re.compile(
            r"(?P<keep>Private-Lines: ?\d{1,4}\s{1,2})[A-Za-z0-9+/=]{1,128}(?![\w-])"
            r"(?:\r?\n[A-Za-z0-9+/=]{1,128}(?![\w-])){0,500}+"
        ),
        _KEEP,
    ),
    Rule(  # also a password with a slash or a question mark: an @ ends it
        "password in the URL of a database",
        ("://",),
        re.compile(
            r"(?P<keep>\b(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|oracle|"
            r"clickhouse|snowflake|s?ftp|ldaps?|smtps?|nats)(?:\+\w{1,30})?"
            r"://[^\s/?#:@\"'<>\[\]]{0,128}:)(?!\*\*\*@|\$\{?\w{1,64}\}?@|\d{1,5}[/?])"
            r"(?:[^\s\"'<>?]{1,200}|[^\s\"'<>]{1,200})(?=@)",
            re.IGNORECASE,
        ),
        _KEEP,
    ),
    Rule(  # a password may contain @: the last one of the authority ends it
        "password in a URL",
        ("://",),
        re.compile(
            r"(?P<keep>://[^\s/?#:@\"'<>\[\]]{0,128}:)(?!\*\*\*@|\$\{?\w{1,64}\}?@)"
            r"[^\s/?#\"'<>]{1,200}(?=@)"
        ),
        _KEEP,
    ),
    Rule(  # https://<token>@github.com
        "token in a URL",
        ("://",),
        re.compile(
            r"(?P<keep>https?://)(?![^\s/@:]{0,64}%40)(?P<value>[^\s/?#:@\"'<>\[\]*]{12,512})"
            r"(?=(?::[^\s/?#@\"']{0,64})?@)",
            re.IGNORECASE,
        ),
        _unless_names,
    ),
    Rule(
        "password before a host, without a scheme",
        ("@",),
        re.compile(
            r"(?P<keep>:)(?P<value>[^\s/:@\"'<>*]{4,128})(?=@(?:(?:[\w-]{1,63}\.){1,8}[a-z]{2,16}"
            r"|localhost|\d{1,3}(?:\.\d{1,3}){3})(?::\d{2,5}\b|/))"
        ),
        _login_without_scheme,
    ),
    Rule(
        "password of a system, as its hash",
        ("$",),
        re.compile(
            r"\$(?:1\$[\w./]{1,8}\$[\w./]{22}|[56]\$(?:rounds=\d{1,9}\$)?[\w./]{1,16}\$[\w./]{43,86}"
            r"|2[abxy]?\$\d\d\$[\w./]{53}|g?y\$[\w./]{1,16}\$[\w./]{1,86}\$[\w./]{43}"
            r"|argon2(?:id|[id])\$v=\d{1,4}\$[\w=,]{1,64}\$[\w+/]{8,128}\$[\w+/]{16,128})(?![\w./])",
            re.ASCII,
        ),
        MASK,
    ),
    Rule(
        "key in kaggle.json",
        ("username",),
        re.compile(
            r"(?P<keep>\busername\\?[\"']\s?:\s?\\?[\"'][^\s\"'\\]{1,64}\\?[\"']\s?,\s{0,8}\\?[\"']key"
            r"\\?[\"']\s?:\s?\\?[\"'])[0-9a-f]{32}(?![\w-])"
        ),
        _KEEP,
    ),
    Rule(
        "password of Oracle: scott/tiger@host",
        ("oracle:", "sqlplus"),
        re.compile(
            r"(?P<keep>\b(?:jdbc:oracle:\w{1,8}:|sqlplus(?:\s{1,4}-\w{1,8}){0,4}\s{1,4})"
            r"[\w$#.-]{1,64}/)(?!\*\*\*@)[^\s/\"'<>]{1,200}(?=@)"
        ),
        _KEEP,
    ),
    Rule(
        "line of a pgpass file",
        (":5432:", ":5433:", ":6432:", ":*:"),
        re.compile(
            r"(?P<keep>(?<![\w.:*-])(?:[\w.-]{1,253}(?<!\.py)|\*):(?:5432|5433|6432|\*):(?:[\w.-]{1,64}|\*):"
            r"(?:[\w.@-]{1,64}|\*):)(?!\*\*\*)[^\s\"':]{3,256}(?![^\s\"'])"
        ),
        _KEEP,
    ),
    Rule(
        "signed URL",
        ("=",),
        re.compile(
            r"(?P<keep>[?&;](?:sig|signature|x-(?:amz|goog)-(?:signature|credential|"
            r"security-token)|awsaccesskeyid|token|auth|key(?==[^\s&;\"'<>#*]{16}))=)[^\s&;\"'<>#*]{4,4096}",
            re.IGNORECASE,
        ),
        _KEEP,
    ),
    Rule(
        "webhook",
        ("://",),
        re.compile(
            r"(?P<keep>hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/"
            r"|(?:discord|discordapp)\.com/api/(?:v\d{1,2}/)?webhooks/|\.webhook\.office\.com/"
            r"|hooks\.zapier\.com/hooks/|maker\.ifttt\.com/|outlook\.office\.com/webhook/"
            r"|open\.(?:feishu\.cn|larksuite\.com)/open-apis/bot/v2/hook/)[^\s\"'<>*]{4,512}",
            re.IGNORECASE,
        ),
        _KEEP,
    ),
    Rule(
        "AWS key",
        ("AKIA", "ASIA", "ABIA", "ACCA", "A3T"),
        re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}(?![A-Z0-9])"),
        MASK,
    ),
    Rule(
        "JSON web token",
        ("eyJ",),
        re.compile(r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]{0,4096}){0,3}"),
        MASK,
    ),
    Rule(
        "Discord bot",
        (".",),
        re.compile(r"[MNO](?<![\w-].)[\w-]{22,27}\.[\w-]{6}\.[\w-]{27,45}(?![\w-])"),
        MASK,
    ),
    Rule(
        "SendGrid",
        ("SG.",),
        re.compile(r"(?<![\w-])SG\.[\w-]{16,64}\.[\w-]{16,64}"),
        MASK,
    ),
    Rule(
        "Telegram bot",
        (":",),
        re.compile(r"\d(?<!\d.)\d{7,9}:[\w-]{35}(?![\w-])"),
        MASK,
    ),
    Rule(
        "Azure client secret",
        ("Q~",),
        re.compile(r"(?<![\w~.-])[\w~.]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])"),
        MASK,
    ),
    Rule(
        "W&B key",
        ("andb", "ANDB", "iases"),
        re.compile(
            r"(?P<keep>\b(?i:wandb|weights?[ _&-]{1,3}biases)(?i:[ _.-]{0,2}(?:api|key|login|token|"
            r"--relogin|host)){0,4}\\?[\"']?[ \t]{0,4}[:=,]?[ \t]{0,4}\\?[\"']?)"
            r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])"
        ),
        _KEEP,
    ),
    Rule(
        "login to W&B",
        ("andb login",),
        re.compile(
            r"(?P<keep>\bwandb login(?:\s{1,4}--\w[^\s\"']{1,128}){0,3}\s{1,4}[\"']?)"
            r"(?P<value>[\w-]{16,256})"
        ),
        _unless_names,
    ),
    Rule(
        "argument of a login",
        ("login(", "token(", "key("),
        re.compile(
            r"(?P<keep>(?:login\((?:[^()]{0,200}?\bkey=)?|set_?(?:(?:api|access|auth|hf)_?)?token\("
            r"|(?:api|access|auth)_?key\()\s{0,4}\\?[\"'])(?P<value>(?=[A-Za-z_-]{0,256}\d)[\w.-]{16,256})"
            r"(?=\\?[\"'])"
        ),
        _unless_names,
        "(",
    ),
    Rule(
        "password or token in a sentence",
        ("assword ", "assphrase ", "ecret ", "oken ", "ey "),
        re.compile(
            r"(?P<keep>(?:(?P<password>(?<![a-z])pass(?:word|phrase))|(?<![a-z])(?:secret|token)"
            r"|(?<![a-z])(?:api|access|account|auth|private|secret|signing|wandb|hf)[ _-]?key)"
            r"(?:[ ]{1,2}(?:is|was|provided|given|used|to|now)){0,2}[ ]?:?[ ]{1,2}[\"'`]?)"
            r"(?P<value>[^\s\"'`<>]{5,512})",
            re.IGNORECASE,
        ),
        _in_sentence,
    ),
    Rule(
        "bearer token",
        ("earer", "EARER", "SSWS"),
        re.compile(r"(?P<keep>\b(?:[Bb](?:earer|EARER)|SSWS)[ \t]{1,4})(?P<value>[\w.~+/=-]{8,})"),
        _bearer,
    ),
    Rule(
        "basic-auth header",
        ("asic", "ASIC"),
        re.compile(
            r"(?P<keep>\b[Bb](?:asic|ASIC)[ \t]{1,4})(?P<value>[A-Za-z0-9+/]{8,1024})={0,2}"
        ),
        _basic,
    ),
    Rule(  # without a machine only a password that cannot be a word of a sentence
        "password in a netrc file",
        ("password",),
        re.compile(
            r"(?P<keep>(?:\b(?:machine\s{1,8}\S{1,128}|default)"
            r"(?:\s{1,8}(?:login|account)\s{1,8}\S{1,128}){0,2}\s{1,8}password\s{1,8}"
            r"|\blogin\s{1,8}\S{1,128}(?:\s{1,8}account\s{1,8}\S{1,128})?\s{1,8}password\s{1,8}"
            r"(?=[A-Za-z]{0,64}[^\sA-Za-z.,;:!?'\")])))(?!\*\*\*)[^\s\"']{1,256}"
        ),
        _KEEP,
    ),
    Rule(
        "user and password of a command",
        (" -",),
        re.compile(
            r"(?P<keep>\b(?:curl|wget|http)\b[^\n|]{0,200}?\s(?:-u|--user)[ =]{0,2}[\"']?"
            r"[^\s:\"']{1,64}:)[^\s\"'*]{1,256}"
        ),
        _KEEP,
    ),
    Rule(
        "password of a command",
        (" -p",),
        re.compile(
            r"(?P<keep>\b(?:login|mysql\w{0,16}|mariadb|sshpass|mongo\w{0,16})\b[^\n|]{0,200}?"
            r"\s-p ?)[^\s\"'*-][^\s\"']{0,256}"
        ),
        _KEEP,
    ),
    *(
        Rule(
            f"password of {hint}",
            (hint,),
            re.compile(
                rf"(?P<keep>(?<![\w.-])(?:{programs})(?=\s)[^\n|;&]{{0,200}}?\s{flag}[\"']?)[^\s\"'*-][^\s\"']{{0,256}}"
            ),
            _KEEP,
            " -",
        )
        for hint, programs, flag, is_p in PASSWORD_FLAGS
        if not is_p
    ),
)
_BY_HINT = {
    needs: [
        (hint, rule.pattern, rule.replacement)
        for rule in RULES
        for hint in rule.hints
        if rule.needs == needs
    ]
    for needs in dict.fromkeys(rule.needs for rule in RULES)
}
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+=_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_.-])")
_USER_BEFORE = re.compile(r"(?<![\w./:@%+-])([A-Za-z][\w.+-]{0,63})$")
_NO_USERS = re.compile(
    r"(?i)(?:acct|author|b?cc|by|contact|e?-?mail(?:to)?|from|git|npm|sips?|to|user|xmpp)"
)
_AWS_NEAR = ("aws", "akia", "asia", "secret")
_MIXED = re.compile(r"(?![+-]?\d[\d.,]*(?:[eE][+-]?\d+)?$)(?=\S*[\d@#$%^&*!~])[^/~$%<({\[*]")
_LONG_KEY = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)[\w+/.~-]{16,}={0,2}", re.ASCII)


def masked_shapes(text: str) -> str:
    """`text` without what looks like a credential."""
    near_aws = False
    if len(text) >= 40:
        lower = text.lower()
        near_aws = any(word in lower for word in _AWS_NEAR)
    for needs, rules in _BY_HINT.items():
        if needs in text:
            done = None
            for hint, pattern, replacement in rules:
                if pattern is not done and hint in text:
                    text, done = pattern.sub(replacement, text), pattern
    text = masked_tokens(text)
    return _AWS_SECRET.sub(_aws_secret, text) if near_aws else text
