"""Names whose values are credentials, and the settings that change that.

A name is split into words: `awsSecretAccessKey`, `AWS_SECRET_ACCESS_KEY` and
`--aws-secret.access-key` are the same. Its end decides: `hf_token` is a credential,
`token_count` a number of tokens, `pad_token` an entry of a vocabulary, `password_file` a file.
"""

import os
import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from eventlog.masking.formats import is_of_names

NEVER, IF_KEY, IF_RANDOM, IF_NO_WORD, ALWAYS = range(5)
"""When a text with a name is masked. IF_KEY: if it has 16 or more letters and digits, not words.
IF_RANDOM: if it does not look like words, a number or a path.
IF_NO_WORD: the same, and the text may be short."""

_SERVICES = (
    "anthropic|aws|azure|bitbucket|clearml|cohere|comet|databricks|discord|docker|gcp|gh|github|"
    "gitlab|gl|google|groq|hf|hub|hugging_?face|jenkins|jira|kaggle|mistral|mlflow|modal|neptune|"
    "npm|openai|openrouter|pypi|replicate|runpod|sendgrid|sentry|slack|stripe|telegram|together|"
    "twilio|twine|vault|wandb"
)
_AUTH = (
    "access|account|admin|api|app|auth|authentication|authorization|bearer|bot|ci|client|csrf|"
    "deploy|device|gateway|id|identity|job|jwt|login|oauth|personal|private|refresh|registry|sas|"
    "secret|security|service|session|xsrf"
)
_KEYS = (
    "account|admin|aes|app|application|auth|cipher|client|consumer|decryption|deploy|developer|"
    "encryption|fernet|functions|hmac|license|master|rapidapi|sas|service|pre_?shared|shared|"
    "shared_access|signing|ssh|storage|subscription|unseal|wep|wpa"
)
_LOGINS = (
    "admin|auth|basic|database|db|email|ftp|http|imap|jdbc|kafka|key_?store|ldap|login|mail|master|"
    "mongo|mqtt|my|mysql|oracle|pg|postgres|proxy|rabbitmq|redis|root|rsync|sftp|smtp|sql|ssh|sudo|"
    "trust_?store|user|vnc|wifi|wlan"
)
_VOCABULARY_WORDS = (
    "additional answer assistant audio avg begin blank bod boi bos bov byte char class cls "
    "concept context decoder draft dummy embed empty encoder end eod eoi eom eop eos eot eov fake "
    "fim first image img input instance language lang last latent learnable mask max mean mem "
    "memory middle min modality n new newline next null num output pad patch per placeholder "
    "prefix prev prompt query question reg register response role sep sink soft sop sos sot space "
    "special speech start stop sub suffix sum system target task text think time tool total "
    "trigger unk unknown video vision visual vocab word"
)
_VOCABULARY = frozenset(_VOCABULARY_WORDS.split())
_QUALIFIERS = re.compile(  # words after a name that do not change what it is
    r"(?:(?<=key)_base|_(?:value|val|string|plain|plaintext|raw|base64|b64|hex|hash|hashed|encrypted|enc|current|"
    r"old|new|prod|production|dev|staging|primary|secondary|header|\d+))+$"
)
_OTHER_LANGUAGES = (
    "contrasenya|contraseña|contrasena|hasło|haslo|heslo|kennwort|lösenord|losenord|mot_?de_?passe|"
    "motdepasse|parola|passwort|salasana|senha|şifre|wachtwoord|пароль|密码|密碼|口令|密钥|令牌|"
    "パスワード|비밀번호|암호"
)
_ALWAYS = re.compile(
    rf"""(?x) (?:^|_) (?:
      [a-z]*(?:passwords? | passwds? | passphrases? | passcodes?)  # PGPASSWORD
    | pass_(?:words?|phrases?|codes?) | {_OTHER_LANGUAGES} | pswd
    | (?:{_LOGINS})_?(?:pass|pw|pwd) | ^pw
    | secrets? | credentials? | creds
    | api_?(?:key|secret|token)s? | access_?keys?(?:_id)? | access_?tokens? | auth_?tokens?
    | secret_?(?:key|token)s? | private_?(?:key|token)s? | bearer
    | (?:{_KEYS})_key | (?:{_AUTH}|{_SERVICES})_?tokens?
    | (?:{_SERVICES}|cr|devops_ext|ghcr|git)_?pat | (?:wifi|wlan|wpa)_psk
    | (?:proxy_)?authorization | (?:http|basic|proxy)_auth | cookies? | set_cookie | jwt
    | (?:seed|recovery)_phrase | webhook_url
    )$ | ^pin$"""
)
_IF_RANDOM = re.compile(rf"(?:^|_)(?:token|auth|otp|pwd|psk|(?:{_AUTH}|{_SERVICES})_keys?)$")
_IF_KEY = re.compile(r"(?:^|_)(?:pat|(?:activation|enrollment|recovery|registration|unlock)_key)$")
_KEY = re.compile(r"(?=\S*[A-Za-z])(?=\S*\d)[\w.~+=-]{16,512}", re.ASCII)
_PARTS = ("pass", "pw", "pswd", "secret", "token", "key", "auth", "cred", "cookie", "jwt", "bearer",
         "otp", "phrase", "pin", "webhook", "contrasen", "haslo", "heslo", "kennwort", "losenord",
         "parola", "salasana", "senha", "wachtwoord", "psk")  # fmt: skip
_PAT = re.compile(r"pat(?![a-z])")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[0-9]+")
_NAME_MAX = 128  # characters; anything longer is not a name

_NO_CREDENTIAL = re.compile(
    r"""(?xi) (?: true | false | none | null | nil | undefined | yes | no | on | off | auto
    | (?:en|dis)abled\d{0,4}
    | str | string | int | bool | optional | required | redacted | \[redacted\]
    | \*+ | x{3,} | \.{3} | …
    | \$\{[\w.:]*\} | (?-i:\$[A-Z][A-Z0-9_]+) | \{\{[^{}]{0,100}\}\} | %\(\w+\)s     # a reference
    | <[^<>]{0,64}> | \[[A-Z_]{2,16}\]                             # a placeholder, a special token
    )?"""
)
_WORD = re.compile(
    r"[A-Z]?[a-z]*(?:[_ .\-](?:[A-Z]?[a-z]+|v?\d{1,2}))*|[\d.,eE+\-]+|[~./\\].*|[A-Za-z]:\\.*"
)
_PATH = re.compile(r"[\w.@-]*(?:://|/)\S*(?:/|\.[A-Za-z]\w{0,11})|\w+://\S+")
_PROSE_WORDS = (
    "a an and are argument as ask be but by cannot check contact denied does empty error expected "
    "expired failed field flag for found from given had has have if in incorrect into invalid is "
    "it key look may missing must needed needs no not of on only option or please provided "
    "rejected required see set should that the this to unknown unset use used using value was "
    "were will with wrong you your"
)
PROSE = frozenset(_PROSE_WORDS.split())
"""Words of a sentence that may follow the name of a credential."""


class Masking(NamedTuple):
    """The settings. Names are globs in lower case."""

    enabled: bool = True
    allow: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @staticmethod
    def from_environment() -> "Masking":
        get = os.environ.get
        return _parsed(
            get("EVENTLOG_MASK", ""),
            get("EVENTLOG_MASK_ALLOW", ""),
            get("EVENTLOG_MASK_NAMES", ""),
        )

    def allows(self, name: str) -> bool:
        """Whether a value with this name is never masked."""
        return bool(self.allow) and _matches(name, self.allow)


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    name = name.lower().lstrip("-+~")
    return any(fnmatchcase(name, glob) for glob in globs)


@lru_cache(maxsize=8)
def _parsed(mask: str, allow: str, names: str) -> Masking:
    allow_globs, name_globs = (
        tuple(filter(None, (glob.strip().lower() for glob in text.split(","))))
        for text in (allow, names)
    )
    enabled = mask.strip().lower() not in ("off", "0", "false", "no", "none")
    return Masking(enabled, allow_globs, name_globs)


def may_have_name(text: str) -> bool:
    """Whether a text may contain the name of a credential; False is certain."""
    if not text.isascii():
        return True
    text = text.lower()
    return any(part in text for part in _PARTS) or ("pat" in text and bool(_PAT.search(text)))


@lru_cache(maxsize=4096)
def strength(name: str, masking: Masking) -> int:
    """When a text named `name` is masked: NEVER, IF_KEY, IF_RANDOM, IF_NO_WORD or ALWAYS."""
    if len(name) > _NAME_MAX or masking.allows(name):
        return NEVER
    if _matches(name, masking.names):
        return ALWAYS
    if name.lstrip("-+~").startswith("pass@"):  # pass@k: how often one of k answers is right
        return NEVER
    words = "_".join(_WORDS.findall(name.lower() if name.isupper() else name)).lower()
    words = _QUALIFIERS.sub("", words)
    if words == "pass":
        return IF_NO_WORD
    *before, last = words.split("_")
    if last in ("token", "tokens") and before and before[-1] in _VOCABULARY:
        return NEVER
    if _ALWAYS.search(words):
        return ALWAYS
    if _IF_RANDOM.search(words):
        return IF_RANDOM
    return IF_KEY if _IF_KEY.search(words) else NEVER


def is_credential(text: str, how: int) -> bool:
    """Whether a text with a name of this strength is a credential, and not a placeholder."""
    text = text.strip()
    if how == NEVER or (len(text) <= _NAME_MAX and _NO_CREDENTIAL.fullmatch(text)):
        return False
    if how == IF_KEY:
        return _KEY.fullmatch(text) is not None and not is_of_names(text)
    if how == IF_NO_WORD:  # hunter2 is a password, gpt2-large a name
        return _is_random(text, 5) and (text.isalnum() or not is_of_names(text))
    return how == ALWAYS or _is_random(text, 8)


def _is_random(text: str, fewest: int) -> bool:
    """Whether a text cannot be a word, a number or a path: it is long, or has mixed characters."""
    if len(text) < fewest or _has_space(text) or (len(text) <= 512 and _PATH.fullmatch(text)):
        return False
    return len(text) >= 24 or not _WORD.fullmatch(text)


def _has_space(text: str) -> bool:
    return len(text.split(None, 1)) > 1
