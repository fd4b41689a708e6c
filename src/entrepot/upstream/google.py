"""Google: a service account's key file is the password of one fixed user."""

import msgspec

from entrepot.model.errors import FieldInvalid
from entrepot.model.upstreams import BasicAuth, GoogleAuth

# cloud.google.com/artifact-registry/docs/docker/authentication, "Service account key".
_USER = "_json_key"


class _Key(msgspec.Struct):
    type: str
    client_email: str
    private_key: str


def as_basic(auth: GoogleAuth) -> BasicAuth:
    """What the token service wants: the whole file as a password."""
    return BasicAuth(_USER, auth.key_json)


def require_key(auth: GoogleAuth) -> None:
    """Refuse what is no key file, without repeating any of it. Raises FieldInvalid."""
    try:
        is_key = msgspec.json.decode(auth.key_json, type=_Key).type == "service_account"
    except (msgspec.MsgspecError, UnicodeError):
        is_key = False
    if not is_key:
        message = (
            "this is not the key file of a service account; make one with: gcloud iam"
            " service-accounts keys create FILE --iam-account ACCOUNT"
        )
        raise FieldInvalid(message, field="credential")
