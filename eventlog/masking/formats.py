"""The formats of the tokens and keys that services issue: one row each, as the services document.

    masked_tokens("pull with hf_AbCdEfGhIjKlMnOpQrSt")   'pull with ***'

A text of words, as in `pa-large-model-with-many-heads-v2`, is no token. No row has what may be
something else: a hash in hexadecimal digits or in base64 (keys of Cohere, Cursor, Scale, InfluxDB),
arrays of ones in base64 (`AQEB...`, Adyen). Such a key is masked if its name says that it is one.
"""

import re

MASK = "***"

_ALNUM, _WORD, _DASHED = r"[A-Za-z0-9]", r"\w", r"[\w-]"
_HEX, _LOWER, _UPPER = r"[0-9a-f]", r"[0-9a-z]", r"[0-9A-Z]"
_BASE64, _DOTTED = r"[\w+/=-]", r"[\w.=-]"
_B = "[L-Za-e][A-Za-z0-9]{3}"  # three characters of an id, in base64
_UUID = rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_BOTH_CASES = r"(?=[a-z0-9_-]{0,40}[A-Z])(?=[A-Z0-9_-]{0,40}[a-z])"
_MIXED = rf"{_BOTH_CASES}(?=[A-Za-z_-]{{0,40}}\d)"

_FORMATS = (
    # service, prefixes (a space between two), the characters after it, how many of them:
    # `20,` is 20 or more; `22` or `22,60` as many, and no more
    # --- code, packages, builds
    ("GitHub", "gh[pousr]_ github_pat_", _WORD, "20,"),
    ("GitLab", "gl(?:pat|ptt|dt|rt|rtr|cbt|ft|imt|agent|soat|ffct|oas)-", _DOTTED, "16,"),
    ("GitLab, runner", "GR1348941", _DASHED, "20,"),
    ("Bitbucket, Jira", "ATATT3 ATCTT3 ATBB", r"[\w=-]", "20,"),
    ("Sourcegraph", f"sgp_(?:{_HEX}{{16}}_|local_)?", _HEX, "40,"),
    ("npm", "npm_", _ALNUM, "30,"),
    ("PyPI", r"pypi-(?=AgE|\w{32})", _DASHED, "16,"),
    ("RubyGems", "rubygems_", _HEX, "20,"),
    ("NuGet", "oy2", "[a-z2-7]", "43"),
    ("Clojars", "CLOJARS_", _LOWER, "40,"),
    ("Artifactory", "AKCp", _ALNUM, "60,80"),
    ("Artifactory, reference", "cmVmd", _ALNUM, "59"),
    ("Docker Hub", "dckr_[po]at_", _DASHED, "20,"),
    ("Buildkite", "bkua_", _HEX, "40,"),
    ("CircleCI", "CCIPAT_ CCIPRJ_", _WORD, "40,"),
    ("SonarQube", "sq[uap]_", _HEX, "40,"),
    ("Octopus Deploy", r"API-(?=[A-Z]{0,26}\d)", _UPPER, "26"),
    ("Harness", rf"[ps]at\.{_DASHED}{{22}}\.{_ALNUM}{{24}}\.", _ALNUM, "20,"),
    ("Azure DevOps", f"{_ALNUM}{{76}}AZDO", _ALNUM, "4"),
    ("Postman", "PMAK-", _DASHED, "24,"),
    ("ReadMe", "rdme_", _LOWER, "60,"),
    # --- models and training
    ("Hugging Face", "hf_(?=[a-z]{0,40}[A-Z0-9]|[a-z]{30})", _ALNUM, "16,"),
    ("Hugging Face", "hf_oauth_ hf_jwt_", _DOTTED, "16,"),
    ("Hugging Face, organization", "api_org_", _ALNUM, "20,"),
    (
        "OpenAI, Anthropic, ...",
        "sk-(?:proj|svcacct|admin|ant|or|None|lf|helicone)-",
        _DASHED,
        "16,",
    ),
    ("OpenAI, DeepSeek, ...", "sk-(?=[a-z]{0,40}[A-Z0-9]|[a-z]{32})", _ALNUM, "16,"),
    ("OpenAI, session", "sess-", _ALNUM, "30,"),
    ("W&B", r"wandb_v\d_", _WORD, "20,"),
    ("W&B, own server", f"local-(?={_HEX}{{40}}(?![A-Za-z0-9]))", _HEX, "40,"),
    ("Neptune", "eyJhcGlf", _BASE64, "20,"),  # {"api_...
    ("LangSmith", r"lsv2_\w\w_", _WORD, "20,"),
    ("Groq, Replicate, RunPod", "gsk_ r8_ rpa_", _BASE64, "24,"),
    ("Pinecone, Jina, Fireworks", "pcsk_ jina_ fw_", _BASE64, "24,"),
    ("xAI, Perplexity, Tavily", "xai- pplx- tvly-", _DASHED, "24,"),
    ("Nvidia, Cerebras", "nvapi- csk-", _DASHED, "24,"),
    ("Kaggle", "KGAT_", _DASHED, "20,"),
    ("Together", r"tgp_v\d_", _DASHED, "30,"),
    ("Voyage", f"pa-{_MIXED}", _DASHED, "43"),
    ("Modal", f"a[ks]-{_BOTH_CASES}", _ALNUM, "22"),
    ("Anyscale", r"aph\d_ esecret_", _ALNUM, "20,"),
    ("E2B", "e2b_", _HEX, "40,"),
    ("Firecrawl", "fc-", _HEX, "32"),
    ("Databricks", f"d(?:api|ose)(?={_HEX}{{32}})", _DASHED, "32,"),
    ("ZenML", "ZENKEY_", _BASE64, "40,"),
    ("Logfire", r"pylf_v\d_\w{2,4}_", _ALNUM, "40,"),
    ("Novita", f"sk_{_MIXED}", _ALNUM, "43"),
    ("Luma", f"luma-(?={_UUID}-)", _DASHED, "73"),
    ("fal", f"{_UUID}:", _HEX, "32"),
    ("Baseten", rf"{_ALNUM}{{8}}\.{_MIXED}", _ALNUM, "32"),
    ("Prefect", "pn[ub]_", _ALNUM, "30,"),
    ("Yandex", "AQVN", _DASHED, "35,38"),
    ("Yandex", f"YC{_MIXED}", _DASHED, "38"),
    # --- clouds, networks, secrets
    ("Google", "AIza", _DASHED, "30,"),
    ("Google, Gemini", r"AQ\.Ab8", _DASHED, "40,"),
    ("Google, OAuth", r"ya29\. GOCSPX-", _DASHED, "20,"),
    ("Google, refresh token", "1//0", _DASHED, "30,"),
    ("Amazon Bedrock", "ABSK", _BASE64, "100,"),
    ("Amazon Bedrock", "bedrock-api-key-", _BASE64, "20,"),
    ("Alibaba", "LTAI", _ALNUM, "12,26"),
    ("Tencent", "AKID", _ALNUM, "28,40"),
    ("DigitalOcean", "do[oprt]_v1_", _DASHED, "20,"),
    ("Heroku", "HRKU-AA", _DASHED, "40,"),
    ("Fly", "fm2_ fo1_ fm1[ar]_", _BASE64, "40,"),
    ("Vercel Blob", "vercel_blob_rw_", _WORD, "30,"),
    ("Netlify", "nfp_", _BASE64, "24,"),
    ("Supabase", "sbp_ sb_secret_", _DASHED, "20,"),
    ("PlanetScale", r"pscale_\w{2,5}_", _DOTTED, "20,"),
    ("ClickHouse", f"4b1d{_BOTH_CASES}", _ALNUM, "38"),
    ("Scalingo", "tk-us-", _DASHED, "40,"),
    ("OpenShift", "sha256~", _DASHED, "43"),
    ("Cloudflare, origin", rf"v1\.0-{_HEX}{{24}}-", _HEX, "100,"),
    ("Cloudflare", "cf(?:ut|at|k)_", _ALNUM, "40,"),
    ("Lambda", rf"secret_\w{{1,40}}_{_HEX}{{32}}\.", _ALNUM, "32,"),
    ("Backblaze", rf"K00\d{_MIXED}", r"[\w+/]", "27"),
    ("Neon", r"napi_(?=[a-z]{0,40}\d)", _LOWER, "60,"),
    ("Tailscale", "tskey-[a-z]{2,16}-(?=[A-Za-z-]{0,40}[A-Z0-9])", r"[A-Za-z0-9-]", "16,"),
    ("ngrok", rf"(?={_ALNUM}{{27}}_){_MIXED}{_ALNUM}{{27}}_", _ALNUM, "19,22"),
    ("Terraform", rf"{_ALNUM}{{14}}\.atlasv1\.", r"[\w=-]", "40,"),
    ("Pulumi", "pul-", _HEX, "40,"),
    ("Infracost", f"ico-{_BOTH_CASES}", _ALNUM, "32"),
    ("HashiCorp Vault", r"hv[sbr]\.", _DASHED, "20,"),
    ("HashiCorp Vault", rf"s\.{_MIXED}", _ALNUM, "24"),
    ("Doppler", r"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[\w-]{1,35}\.)?", _DASHED, "20,"),
    ("1Password", "ops_eyJ", _BASE64, "60,"),
    ("1Password", r"A3-[A-Z0-9]{6}-(?=[A-Z-]{0,40}\d)", r"[A-Z0-9-]", "20,"),
    ("age", "AGE-SECRET-KEY-1", _UPPER, "40,"),
    # --- monitoring and features
    ("Grafana", "glsa_ glc_", _BASE64, "24,"),
    ("Grafana", "eyJrIjoi", _BASE64, "60,"),
    ("Sentry", "sntry[su]_", _BASE64, "20,"),
    ("New Relic", "NRAK- NRII- NRJS-", _DASHED, "16,"),
    ("Dynatrace", rf"dt0c01\.{_ALNUM}{{24}}\.", _ALNUM, "40,"),
    ("Honeycomb", "hc[a-z]i[ck]_", _LOWER, "58"),
    ("Contentful", "CFPAT-", _DASHED, "40,"),
    ("Axiom", f"xa[ap]t-(?={_UUID})", _DASHED, "36"),
    ("PostHog", f"ph[acrsx]_{_MIXED}", _ALNUM, "40,50"),
    ("PagerDuty", rf"u\+{_MIXED}", _DASHED, "18"),
    ("Confluent", f"cflt{_MIXED}", r"[\w+/]", "50,"),
    (
        "Elastic",
        f"(?:{_B}){{6}}[L-Za-e]{_ALNUM}[AEIMQUYcgkosw048]6(?:{_B}){{7}}(?=..==)",
        _BASE64,
        "4",
    ),
    ("LaunchDarkly", f"(?:sdk|api)-(?={_UUID})", _DASHED, "36"),
    # --- messages, documents, forms
    ("Slack", r"xox[abdeoprs]- xoxe\.xox[bp]-\d-", _DASHED, "10,"),
    ("Slack, app", r"xapp-\d-", _DASHED, "10,"),
    ("Notion", r"ntn_ secret_(?=\w{43})", _DASHED, "24,"),
    ("Linear", "lin_api_", _ALNUM, "20,"),
    ("Asana", r"[12]/(?:\d{16}/)?\d{16}:", _HEX, "32"),
    ("ClickUp", r"pk_\d{6,10}_", _UPPER, "32"),
    ("HubSpot", rf"pat-[a-z]{{2}}\d-(?={_UUID})", _DASHED, "36"),
    ("Intercom", "dG9rO", _BASE64, "50,"),
    ("Apify", "apify_api_", _ALNUM, "30,"),
    ("MailerSend", r"mlsn\.", _HEX, "60,"),
    ("Airtable", rf"pat{_ALNUM}{{14}}\.", _HEX, "60,"),
    ("Dropbox", r"sl\.(?:[a-z]\.)?", r"[\w=-]", "100,"),
    ("Dropbox, long-lived", f"{_LOWER}{{11}}A{{10}}", r"[\w=-]", "43"),
    ("Figma", "fig[dour]_(?=[A-Za-z_-]{0,40}[A-Z0-9])", _DASHED, "24,"),
    ("Frame.io", "fio-u-", r"[\w=-]", "60,"),
    ("Typeform", "tfp_", _DOTTED, "40,"),
    ("Mailgun", f"key-(?={_HEX}{{32}})", _HEX, "32,"),
    ("Mailchimp", f"{_HEX}{{32}}-us", r"\d", "1,2"),
    ("Brevo", "xkeysib- xsmtpsib-", r"[A-Za-z0-9-]", "60,"),
    ("Resend", f"re_{_MIXED}{_ALNUM}{{8}}_", _ALNUM, "24"),
    ("Twilio", f"SK(?={_HEX}{{32}})", _HEX, "32,"),
    # --- payments, shops
    ("Stripe, ElevenLabs", f"[sr]k_(?:live|test|prod)_ sk_(?={_HEX}{{40}})", _ALNUM, "16,"),
    ("GoCardless", f"live_{_MIXED}", _DASHED, "40"),
    ("Razorpay", "rzp_(?:live|test)_", _ALNUM, "14"),
    ("Adyen", r"AQE(?=[\w+/]{50,200}={0,2}-)", r"[\w+/=-]", "90,"),
    ("Stripe, webhook", "whsec_", _ALNUM, "16,"),
    ("Square", "sq0(?:atp|csp)-", _DASHED, "22,"),
    ("Square", "EAAA", _DASHED, "22,60"),
    ("PayPal, Braintree", r"access_token\$(?:production|sandbox)\$", r"[0-9a-z$]", "40,"),
    ("Facebook", "EAA[CM]", _ALNUM, "60,"),
    ("Shopify", "shp(?:at|ca|pa|ss)_", _DASHED, "20,"),
    ("Plaid", f"access-(?:sandbox|development|production)-(?={_UUID})", _DASHED, "36,"),
    ("Shippo", "shippo_(?:live|test)_", _HEX, "40,"),
    ("Duffel", "duffel_(?:live|test)_", r"[\w=-]", "40,"),
    ("EasyPost", "EZ[AT]K", _ALNUM, "54"),
    ("Flutterwave", "FLWSECK(?:_TEST)?-", r"[\w-]", "12,"),
    ("MaxMind", f"{_ALNUM}{{6}}_{_ALNUM}{{29}}", "_mmk", "1"),
    ("SettleMint", "sm_[aps]at_", _ALNUM, "16,"),
    ("42 Intra", "s-s4t2(?:ud|af)-", _HEX, "60,"),
    # --- any
    ("JSON web token, encoded once more", "ZXlKaGJHY2lPaU", _BASE64, "20,"),
)


def _alternatives() -> str:
    """A pattern of all formats; those that begin with the same letter are tried together."""
    by_first: dict[str, list[str]] = {}
    for _, prefixes, characters, count in _FORMATS:
        end = "" if count.endswith(",") else r"(?![\w+/=-])"
        for prefix in prefixes.split():
            first = prefix[0] if prefix[0].isalnum() else ""
            rest = prefix.removeprefix(first)
            by_first.setdefault(first, []).append(f"{rest}(?:{characters}){{{count}}}{end}")
    return "|".join(f"{first}(?:{'|'.join(rests)})" for first, rests in by_first.items())


_TOKEN = re.compile(
    # 15 characters, the fewest of a token, are looked for first: most words are shorter.
    rf"(?<![A-Za-z0-9])(?=[A-Za-z0-9][\w.$~+/=-]{{14}})(?:{_alternatives()})",
    re.ASCII,
)
_NAME = r"(?:[A-Za-z]?[a-z]{0,15}(?:[A-Z][a-z]{2,15})*|[A-Z]{1,15})(?:\d{0,6}[A-Za-z]?|\d{8,14})"
_NAME = rf"(?>{_NAME}(?![A-Za-z0-9]))"  # atomic: never tried again in another way
_NAMES = re.compile(rf"{_NAME}(?:[-_./]{{1,2}}{_NAME})*")


def masked_tokens(text: str) -> str:
    """`text` without tokens in the format of a service."""
    return _TOKEN.sub(_mask, text)


def is_of_names(text: str) -> bool:
    """Whether this is made of words and numbers, as the name of a file, a model or a layer."""
    return _NAMES.fullmatch(text) is not None


def _mask(match: re.Match[str]) -> str:
    return match[0] if is_of_names(match[0]) else MASK
