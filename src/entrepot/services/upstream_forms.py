"""What people say of an upstream registry, read: its address, its credential, its patterns."""

import json
import re
from dataclasses import dataclass, replace

from entrepot.model.errors import FieldInvalid, NameInvalid
from entrepot.model.upstreams import (
    PRESETS,
    Auth,
    AuthKind,
    AzureAuth,
    BasicAuth,
    EcrAuth,
    GoogleAuth,
    NoAuth,
    Preset,
)
from entrepot.services.upstream_secrets import kind_of
from entrepot.upstream.origins import Origin

PATTERNS = 50
PATTERN = r"[a-z0-9._*-]{1,255}(?:/[a-z0-9._*-]{1,255})*"
PATTERN_MEANS = (
    "paths of the upstream without / at either end, with * within a component and ** across them:"
    " library/*, acme/**"
)
NAME = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
CUSTOM = "custom"

_PATTERN_LENGTH = 255
_NAME = re.compile(NAME)
_PATTERN = re.compile(PATTERN)
_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)*(?:-?\d+)?")
_AZURE = re.compile(r"[a-z0-9]{5,50}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,512}")
_HUB = "docker-hub"
_HUB_ANONYMOUS = (
    "without a credential Docker Hub allows 100 pulls in 6 hours to each address, and this server"
    " has one address for all who pull through it; give a user name and an access token"
    " (--username NAME --password-stdin), or say that it is enough (--anonymous)"
)


@dataclass(frozen=True, slots=True)
class NewUpstream:
    """An upstream as somebody wants it. What is empty follows from the rest.

    `account` and `region` name a registry of AWS, Google or Azure in place of its `url`.
    """

    name: str
    preset: str = ""
    url: str = ""
    account: str = ""
    region: str = ""
    auth: Auth | None = None
    is_anonymous: bool = False
    save_unchecked: bool = False
    member_patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamChanges:
    """What to change; None stays."""

    name: str | None = None
    url: str | None = None
    auth: Auth | None = None
    is_anonymous: bool = False
    save_unchecked: bool = False
    member_patterns: tuple[str, ...] | None = None


def require_name(name: str) -> None:
    """Raises NameInvalid."""
    if _NAME.fullmatch(name) is None:
        message = (
            "the name of an upstream is 1 to 63 lower-case letters, digits, dots, dashes and"
            " underscores, with a letter or digit at both ends"
        )
        raise NameInvalid(message, name=name[:80], field="name")


def require_patterns(patterns: tuple[str, ...]) -> None:
    """Raises FieldInvalid."""
    if len(patterns) > PATTERNS or not all(is_pattern(each) for each in patterns):
        message = f"at most {PATTERNS} patterns: {PATTERN_MEANS}"
        raise FieldInvalid(message, field="member_patterns")


def is_pattern(text: str) -> bool:
    """Whether something can fit this; no path begins or ends with a slash."""
    return len(text) <= _PATTERN_LENGTH and _PATTERN.fullmatch(text) is not None


def preset_of(new: NewUpstream) -> Preset:
    """The kind of registry: as named, by its address, or by its name. Raises FieldInvalid."""
    if new.preset:
        if (found := PRESETS.get(new.preset)) is None:
            message = f"no preset is called {new.preset[:80]!r}; there are: {', '.join(PRESETS)}"
            raise FieldInvalid(message, field="preset")
        return found
    if new.url:
        host = _origin(new.url).host
        if found := next((each for each in PRESETS.values() if _is_at(each, host)), None):
            return found
    return PRESETS.get(new.name, PRESETS[CUSTOM])


def origin_of(preset: Preset, new: NewUpstream) -> str:
    """Scheme and host of the registry. Raises FieldInvalid."""
    if new.url:
        given = _origin(new.url)
        return preset.origin if preset.origin and given.host in preset.aliases else str(given)
    if preset.name == "ecr":
        return _ecr(new)
    if preset.name == "gar" and new.region:
        return f"https://{_region(new.region)}-docker.pkg.dev"
    if preset.name == "acr":
        if _AZURE.fullmatch(new.account) is None:
            message = (
                "say which registry: --account with its name, 5 to 50 lower-case letters and"
                " digits before .azurecr.io, or --url"
            )
            raise FieldInvalid(message, field="account")
        return f"https://{new.account}.azurecr.io"
    if not preset.origin:
        presets = ", ".join(name for name in PRESETS if name != CUSTOM)
        message = (
            "say where the registry is, such as --url https://registry.example.com,"
            f" or which one: --preset with one of {presets}"
        )
        raise FieldInvalid(message, field="url")
    return preset.origin


def auth_of(preset: Preset, auth: Auth | None, *, is_anonymous: bool, external_id: str) -> Auth:
    """The credential: as given, or the one that needs nothing given. Raises FieldInvalid."""
    if auth is None:
        auth = NoAuth() if AuthKind.NONE in preset.auth_kinds else _needed(preset)
    if kind_of(auth) not in preset.auth_kinds:
        kinds = ", ".join(preset.auth_kinds)
        message = f"{preset.name} takes no credential of the kind {kind_of(auth)}, but: {kinds}"
        raise FieldInvalid(message, field="credential.kind")
    if preset.name == _HUB and isinstance(auth, NoAuth) and not is_anonymous:
        raise FieldInvalid(_HUB_ANONYMOUS, field="is_anonymous")
    if is_anonymous and not isinstance(auth, NoAuth):
        message = "anonymous is without a credential; leave one of the two out"
        raise FieldInvalid(message, field="is_anonymous")
    if isinstance(auth, GoogleAuth):
        _google_name(auth)
    return _ecr_auth(auth, external_id) if isinstance(auth, EcrAuth) else auth


def auth_name_of(auth: Auth) -> str:
    """Which credential it is, for those who have several; nothing secret."""
    match auth:
        case BasicAuth():
            return auth.username
        case EcrAuth():
            return auth.role_arn or auth.access_key_id or "identity of this server"
        case GoogleAuth():
            return _google_name(auth)
        case AzureAuth():
            return auth.client_id
        case _:
            return ""


def _origin(url: str) -> Origin:
    return Origin.parse(url if "://" in url else f"https://{url}", field="url")


def _is_at(preset: Preset, host: str) -> bool:
    return host in preset.aliases or {
        "ecr": ".dkr.ecr." in host and ".amazonaws.com" in host,
        "gar": host.endswith("-docker.pkg.dev"),
        "acr": host.endswith(".azurecr.io"),
    }.get(preset.name, False)


def _ecr(new: NewUpstream) -> str:
    if _ACCOUNT.fullmatch(new.account) is None:
        message = "say whose registry: --account with the 12 digits of the AWS account"
        raise FieldInvalid(message, field="account")
    if not new.region:
        message = "say where the registry is: --region, such as eu-central-1"
        raise FieldInvalid(message, field="region")
    domain = "amazonaws.com.cn" if new.region.startswith("cn-") else "amazonaws.com"
    return f"https://{new.account}.dkr.ecr.{_region(new.region)}.{domain}"


def _region(region: str) -> str:
    if _REGION.fullmatch(region) is None:
        raise FieldInvalid("a region is a word such as eu-central-1", field="region")
    return region


def _needed(preset: Preset) -> Auth:
    if preset.auth_kinds == (AuthKind.ECR,):
        return EcrAuth()
    kinds = ", ".join(preset.auth_kinds)
    raise FieldInvalid(f"{preset.name} needs a credential: {kinds}", field="credential")


def _ecr_auth(auth: EcrAuth, external_id: str) -> EcrAuth:
    if bool(auth.access_key_id) != bool(auth.secret_access_key):
        message = "an access key is two: --access-key-id ID and --secret-stdin"
        raise FieldInvalid(message, field="credential.access_key_id")
    if not auth.role_arn:
        return replace(auth, external_id="")
    if _ROLE.fullmatch(auth.role_arn) is None:
        message = "a role is named by its ARN, such as arn:aws:iam::123456789012:role/pull"
        raise FieldInvalid(message, field="credential.role_arn")
    return replace(auth, external_id=external_id)


def _google_name(auth: GoogleAuth) -> str:
    try:
        email = json.loads(auth.key_json)["client_email"]
    except (ValueError, TypeError, KeyError):
        email = None
    if not isinstance(email, str):
        message = (
            "this is no key of a service account; give the JSON file that Google makes for one:"
            " --key-file FILE"
        )
        raise FieldInvalid(message, field="credential.key_json") from None
    return email
