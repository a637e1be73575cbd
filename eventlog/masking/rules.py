"""What credentials look like, in any text.

One table, RULES: a name, hints without which the pattern is not tried, the pattern, and its
replacement. The prefixes are those that the services document.

A pattern takes time linear in the text: it begins where the characters of its own repetition
cannot precede it, or its repetitions are bounded, or nothing can fail after them.
"""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable
from typing import NamedTuple

MASK = "***"


class Rule(NamedTuple):
    """A kind of credential."""

    name: str
    hints: tuple[str, ...]
    """Every such text contains one of these."""
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]


_KEEP = rf"\g<keep>{MASK}"

_SHORT = "gsk_ r8_ rpa_ pcsk_ jina_ fw_ ntn_ sbp_ glsa_ glc_ nfp_"
_LONG = "pscale_ rubygems_ sntrys_ sntryu_ lin_api_ lsv2_"
_MORE = "dckr_ _v1_ shpat_ shpca_ shppa_ shpss_ KGAT_ secret_"
_PREFIXED = (
    # prefix, characters after it, the least number of them, hints
    (r"gh[pousr]_", r"[A-Za-z0-9]", 20, "gh"),  # GitHub
    (r"github_pat_", r"\w", 20, "github_pat_"),
    (r"gl(?:pat|ptt|dt|rt|rtr|cbt|ft|imt|agent|soat|ffct|oas)-", r"[\w.=-]", 16, "gl"),  # GitLab
    (r"hf_(?=[a-z]{0,40}[A-Z0-9]|[a-z]{30})", r"[A-Za-z0-9]", 16, "hf_"),  # Hugging Face
    (r"api_org_", r"[A-Za-z0-9]", 20, "api_org_"),
    (r"sk-(?:proj|svcacct|admin|ant|or|None|lf)-", r"[\w-]", 16, "sk-"),  # OpenAI, Anthropic, ...
    (r"sk-(?=[a-z]{0,40}[A-Z0-9]|[a-z]{32})", r"[A-Za-z0-9]", 16, "sk-"),
    (r"(?:sk|rk)_(?:live|test)_|sk_(?=[0-9a-f]{40})", r"[A-Za-z0-9]", 16, "k_"),  # Stripe
    (r"whsec_", r"[A-Za-z0-9]", 16, "whsec_"),
    (r"AIza", r"[\w-]", 30, "AIza"),  # Google
    (r"ya29\.", r"[\w-]", 20, "ya29."),
    (r"GOCSPX-", r"[\w-]", 20, "GOCSPX-"),
    (r"1//0", r"[\w-]", 30, "1//0"),
    (r"xox[abeoprs]-|xoxe\.xox[bp]-\d-", r"[\w-]", 10, "xox"),  # Slack
    (r"xapp-\d-", r"[\w-]", 10, "xapp-"),
    (r"npm_", r"[A-Za-z0-9]", 30, "npm_"),
    (r"pypi-(?=AgE|\w{32})", r"[\w-]", 16, "pypi-"),
    (r"wandb_v\d_", r"\w", 20, "wandb_v"),
    (r"(?:gsk|r8|rpa|pcsk|jina|fw|ntn|sbp|glsa|glc|nfp)_", r"[\w+/=-]", 24, _SHORT),
    (
        r"(?:xai|pplx|tvly|nvapi|csk|PMAK|NRAK)-",
        r"[\w-]",
        24,
        "xai- pplx- tvly- nvapi- csk- PMAK- NRAK-",
    ),
    (r"pscale_\w{2,5}_|rubygems_|sntry[su]_|lin_api_|lsv2_\w\w_", r"[\w+/=.-]", 20, _LONG),
    (r"dckr_[po]at_|do[oprt]_v1_|shp(?:at|ca|pa|ss)_|KGAT_|secret_(?=\w{43})", r"[\w-]", 20, _MORE),
    (r"dapi(?=[0-9a-f]{32})", r"[\w-]", 32, "dapi"),  # Databricks
    (r"hv[sbr]\.|dp\.pt\.", r"[\w-]", 20, "hvs. hvb. hvr. dp.pt."),  # Vault, Doppler
    (r"ATATT3|ATBB", r"[\w=-]", 20, "ATATT3 ATBB"),  # Atlassian
    (r"key-(?=[0-9a-f]{32})", r"[0-9a-f]", 32, "key-"),  # Mailgun
    (r"SK(?=[0-9a-f]{32})", r"[0-9a-f]", 32, "SK"),  # Twilio
    (r"AGE-SECRET-KEY-1|f(?:m2|o1|m1[ar])_", r"[\w+/=-]", 40, "-KEY-1 fm2_ fo1_ fm1"),  # age, Fly
    (r"local-(?=[0-9a-f]{40}(?![A-Za-z0-9]))", r"[0-9a-f]", 40, "local-"),  # W&B on own machines
    (r"tskey-[a-z]{2,16}-(?=[A-Za-z-]{0,40}[A-Z0-9])", r"[A-Za-z0-9-]", 16, "tskey-"),  # Tailscale
    (r"fig[dour]_(?=[A-Za-z_-]{0,40}[A-Z0-9])", r"[\w-]", 24, "figd_ figo_ figu_ figr_"),  # Figma
    (r"eyJhcGlf", r"[\w+/=-]", 20, "eyJhcGlf"),  # Neptune: {"api_...
)


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
            r"(?P<keep>https?://)(?=[A-Za-z._%-]{0,64}[0-9])[^\s/?#:@\"'<>\[\]]{16,512}"
            r"(?=(?::[^\s/?#@\"']{0,64})?@)",
            re.IGNORECASE,
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
    *(
        Rule(
            "key with a prefix",
            tuple(hints.split()),
            re.compile(rf"(?<![A-Za-z0-9])(?:{prefix}){characters}{{{fewest},}}"),
            MASK,
        )
        for prefix, characters, fewest, hints in _PREFIXED
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
        re.compile(r"(?<![\w-])[MNO][\w-]{22,27}\.[\w-]{6}\.[\w-]{27,45}(?![\w-])"),
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
        re.compile(r"(?<!\d)\d{8,10}:[\w-]{35}(?![\w-])"),
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
        "bearer token",
        ("earer", "EARER"),
        re.compile(r"(?P<keep>\b[Bb](?:earer|EARER)[ \t]{1,4})(?P<value>[\w.~+/=-]{8,})"),
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
)
_BY_HINT = [(hint, rule.pattern, rule.replacement) for rule in RULES for hint in rule.hints]
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+=_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_.-])")
_AWS_NEAR = ("aws", "akia", "asia", "secret")


def masked_shapes(text: str) -> str:
    """`text` without what looks like a credential."""
    near_aws = False
    if len(text) >= 40:
        lower = text.lower()
        near_aws = any(word in lower for word in _AWS_NEAR)
    for hint, pattern, replacement in _BY_HINT:
        if hint in text:
            text = pattern.sub(replacement, text)
    return _AWS_SECRET.sub(_aws_secret, text) if near_aws else text
