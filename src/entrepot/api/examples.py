"""Examples in the OpenAPI document: a body for each that is sent, and values of parameters."""

from collections.abc import Mapping
from typing import Any

_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

# Parameters that are the same kind of thing everywhere.
VALUES: Mapping[str, str] = {
    "organisation": "acme",
    "user": "ada",
    "project": "b7k2m9qxw4",
    "repository": "0c4b7g1hz2m9k",
    "token": "0c4b8d3wjx5q1",
    "invitation": "0c4b9f6tr8n2z",
    "upstream": "0c4bb2x7md9k4",
    "mirror": "0c4bc5f2hq8w1",
    "tag": "v1.4.2",
    "digest": _DIGEST,
    "If-Match": '"3"',
    "Idempotency-Key": "5e0a4b1c-create-acme",
}

# By the name of the body's schema.
BODIES: Mapping[str, Mapping[str, Any]] = {
    "Acceptance": {
        "invitation": "entrepot_invite_...",
        "name": "ada",
        "password": "correct horse battery",
    },
    "Credentials": {"name": "ada", "password": "correct horse battery", "token_name": "laptop"},
    "Destination": {"organisation": "acme"},
    "MemberChanges": {"role": "admin"},
    "NewInvitation": {"role": "member", "note": "Grace, for the compiler"},
    "MirrorChanges": {"deny": ["library/secret"]},
    "NewNamespaceMirror": {"prefix": "hub", "upstream": "docker-hub", "allow": ["library/**"]},
    "NewOrganisation": {"slug": "acme", "name": "Acme"},
    "NewProject": {"name": "Compiler"},
    "NewRepository": {"path": "team/app", "immutable_tags": ["v*"]},
    "NewToken": {"kind": "pull", "name": "cluster", "patterns": ["team/**"], "expires_in": 86_400},
    "NewUpstream": {
        "name": "docker-hub",
        "credential": {"kind": "basic", "username": "acme", "password": "dckr_pat_..."},
    },
    "NewUser": {"name": "ada"},
    "NewUserToken": {"name": "laptop", "expires_in": 7_776_000, "actions": ["pull", "push"]},
    "OrganisationChanges": {"name": "Acme", "retention": {"days": 30}},
    "PasswordChange": {"current": "correct horse battery", "new": "staple battery horse"},
    "PreviewWanted": {"policy": {"tags": 25, "keep": ["v*"]}},
    "ProjectChanges": {"name": "Compiler"},
    "Reason": {"reason": "the only owner left the company"},
    "RepositoryChanges": {"immutable_tags": ["v*"]},
    "RetentionWanted": {"days": 14, "keep": ["v*"], "pulled_days": 7},
    "Settings": {"is_read_only": True},
    "TagRestore": {"at": "2026-11-20T10:00:00Z"},
    "TagsRestore": {"since": "2026-11-26T03:00:00Z"},
    "UpstreamChanges": {
        "credential": {"kind": "basic", "username": "acme", "password": "dckr_pat_..."}
    },
    "UpstreamCheck": {"accept_realm": False},
    "UserChanges": {"is_disabled": True},
}
