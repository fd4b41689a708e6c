"""What each route answers to everybody: written by hand, not derived from the table of rights.

`+` lets pass; 1 is 401 (no good credential), 3 is 403 (may see it, may not do it), 4 is 404 (may
not see it, or it is not there). One letter per principal, in this order:

    nobody
    reader member admin owner                       users with these roles in the organisation
    stranger administrator lapsed disabled          owner of another one; of the server; an owner
                                                    until yesterday; an owner who was disabled
    organisation managing foreign                   organisation tokens: plain, made to manage, and
                                                    such a one of another organisation
    project other-project                           project tokens
    project organisation pattern                    pull tokens: of the project, all, `team/**`
    pull elsewhere content | team content | pull    narrowed: the owner's (by actions, by patterns,
                                                    by all actions but manage), the managing
                                                    token's, the server administrator's
    expired revoked bearer                          the last: a bearer token of the owner for /v2/
                                                    that covers nothing
"""

PRINCIPALS = (
    "nobody",
    *("reader", "member", "admin", "owner"),
    *("stranger", "administrator", "lapsed", "disabled"),
    *("organisation", "managing", "foreign"),
    *("project", "other project"),
    *("pull of project", "pull of organisation", "pull of pattern"),
    *("owner, pull", "owner, elsewhere", "owner, content"),
    *("managing, team", "managing, content", "administrator, pull"),
    *("expired", "revoked", "bearer"),
)

_PUBLIC = "+ ++++ +++1 +++ ++ +++ +++ ++ + +1+"  # a revoked credential is refused everywhere
_KNOWN = "1 ++++ +++1 +++ ++ +++ +++ ++ + 111"
_SEE = "1 ++++ 4+41 ++4 44 444 +++ ++ + 111"
_BROWSE = "1 ++++ 4341 ++4 44 444 +++ ++ 3 111"
_CREATE = "1 3+++ 4341 3+4 44 444 333 33 3 111"  # projects, and tokens of them
_MANAGE = "1 33++ 4341 3+4 44 444 333 33 3 111"
_USAGE = "1 ++++ 4+41 ++4 44 444 +3+ 3+ + 111"  # sums over what patterns leave out
_OWN = "1 333+ 4341 334 44 444 333 33 3 111"
_ADMINISTER = "1 3333 3+31 333 33 333 333 33 3 111"
_PEOPLE = "1 ++++ +++1 333 33 333 333 33 3 111"  # users by a token without limits
# A project's own path tells a server administrator nothing.
_BROWSE_PROJECT = "1 ++++ 4441 ++4 44 444 +++ ++ 4 111"
_MANAGE_PROJECT = "1 33++ 4441 3+4 44 444 333 33 4 111"

# An upstream that members may not use is not there for them; one that they may, is not theirs.
_UPSTREAM = "1 44++ 4441 4+4 44 444 444 44 4 111"
_SEE_UPSTREAM = "1 4+++ 4441 ++4 44 444 44+ 4+ 4 111"
_MANAGE_UPSTREAM = "1 43++ 4441 3+4 44 444 443 43 4 111"

# (method, path below /api/v1), with `..` for what is beside it, and a word behind # where a body makes another case.
MANAGEMENT: dict[tuple[str, str], str] = {
    ("GET", "/openapi.json"): _PUBLIC,
    ("GET", "/../docs"): _PUBLIC,
    ("POST", "/login"): _PUBLIC,
    ("GET", "/whoami"): _KNOWN,
    ("PUT", "/password"): _PEOPLE,
    ("GET", "/users"): _ADMINISTER,
    ("POST", "/users"): _ADMINISTER,
    ("GET", "/users/{user}"): _ADMINISTER,
    ("PATCH", "/users/{user}"): _ADMINISTER,
    ("GET", "/organisations"): _KNOWN,
    ("POST", "/organisations"): _ADMINISTER,
    ("GET", "/organisations/{organisation}"): _SEE,
    ("PATCH", "/organisations/{organisation}"): "1 33++ 4+41 3+4 44 444 333 33 3 111",
    ("PATCH", "/organisations/{organisation}#price"): "1 333+ 4+41 334 44 444 333 33 3 111",
    ("PATCH", "/organisations/{organisation}#quota"): "1 333+ 4+41 334 44 444 333 33 3 111",
    ("GET", "/organisations/{organisation}/usage"): _USAGE,
    ("DELETE", "/organisations/{organisation}"): "1 333+ 4+41 334 44 444 333 33 3 111",
    ("POST", "/organisations/{organisation}/break-glass"): _ADMINISTER,
    ("GET", "/organisations/{organisation}/members"): _BROWSE,
    ("GET", "/organisations/{organisation}/members/{user}"): _BROWSE,
    ("PATCH", "/organisations/{organisation}/members/{user}"): _MANAGE,
    ("PATCH", "/organisations/{organisation}/members/{user}#owner"): _OWN,
    ("DELETE", "/organisations/{organisation}/members/{user}"): _MANAGE,
    ("DELETE", "/organisations/{organisation}/members/{user}#owner"): _OWN,
    ("GET", "/organisations/{organisation}/invitations"): _MANAGE,
    ("POST", "/organisations/{organisation}/invitations"): _MANAGE,
    ("POST", "/organisations/{organisation}/invitations#owner"): _OWN,
    ("DELETE", "/organisations/{organisation}/invitations/{invitation}"): _MANAGE,
    ("POST", "/invitations/accept"): "+ ++++ +++1 333 33 333 333 33 3 111",
    ("GET", "/organisations/{organisation}/projects"): _BROWSE,
    ("POST", "/organisations/{organisation}/projects"): _CREATE,
    ("GET", "/projects/{project}"): _BROWSE_PROJECT,
    ("GET", "/projects/{project}/usage"): "1 ++++ 4441 ++4 44 444 +3+ 3+ 4 111",
    ("PATCH", "/projects/{project}"): _MANAGE_PROJECT,
    ("DELETE", "/projects/{project}"): _MANAGE_PROJECT,
    ("POST", "/projects/{project}/restore"): _MANAGE_PROJECT,
    ("POST", "/projects/{project}/transfer"): _MANAGE_PROJECT,
    ("GET", "/projects/{project}/repositories"): _BROWSE_PROJECT,
    ("PUT", "/projects/{project}/repositories/{repository}"): _MANAGE_PROJECT,
    ("DELETE", "/projects/{project}/repositories/{repository}"): _MANAGE_PROJECT,
    ("GET", "/organisations/{organisation}/repositories"): _BROWSE,
    # Of `team/…`. With policies it takes who may manage repositories.
    ("POST", "/organisations/{organisation}/repositories"): "1 3+++ 4341 ++4 44 444 33+ ++ 3 111",
    ("POST", "/organisations/{organisation}/repositories#policy"): (
        "1 33++ 4341 3+4 44 444 333 +3 3 111"
    ),
    ("GET", "/organisations/{organisation}/upstreams"): _BROWSE,
    ("POST", "/organisations/{organisation}/upstreams"): _MANAGE,
    ("GET", "/organisations/{organisation}/mirrors"): _BROWSE,
    ("POST", "/organisations/{organisation}/mirrors"): _MANAGE,
    ("GET", "/mirrors/{mirror}"): _BROWSE_PROJECT,
    ("PATCH", "/mirrors/{mirror}"): _MANAGE_PROJECT,
    ("DELETE", "/mirrors/{mirror}"): _MANAGE_PROJECT,
    ("GET", "/upstreams/{upstream}"): _UPSTREAM,
    ("PATCH", "/upstreams/{upstream}"): _UPSTREAM,
    ("POST", "/upstreams/{upstream}/check"): _UPSTREAM,
    ("DELETE", "/upstreams/{upstream}"): _UPSTREAM,
    ("GET", "/upstreams/{upstream}#members"): _SEE_UPSTREAM,
    ("PATCH", "/upstreams/{upstream}#members"): _MANAGE_UPSTREAM,
    ("POST", "/upstreams/{upstream}/check#members"): _MANAGE_UPSTREAM,
    ("DELETE", "/upstreams/{upstream}#members"): _MANAGE_UPSTREAM,
    # Of an upstream that is open to members.
    ("POST", "/organisations/{organisation}/repositories#upstream"): (
        "1 3+++ 4341 ++4 44 444 33+ ++ 3 111"
    ),
    ("GET", "/tokens"): _PEOPLE,
    ("POST", "/tokens"): _PEOPLE,
    ("GET", "/organisations/{organisation}/tokens"): _CREATE,
    ("POST", "/organisations/{organisation}/tokens"): _CREATE,
    ("POST", "/organisations/{organisation}/tokens#project"): _CREATE,
    ("POST", "/organisations/{organisation}/tokens#organisation"): _MANAGE,
    # Tokens say to nobody that they are there but to who may end them.
    ("GET", "/tokens/{token}#organisation"): "1 44++ 4441 4+4 44 444 444 44 4 111",
    ("GET", "/tokens/{token}#project"): "1 4+++ 4441 4+4 44 444 444 44 4 111",
    ("GET", "/tokens/{token}#pull"): "1 4+++ 4441 4+4 44 444 444 44 4 111",
    ("GET", "/tokens/{token}#user"): "1 444+ 4441 444 44 444 444 44 4 111",
    ("DELETE", "/tokens/{token}#organisation"): "1 44++ 4441 4+4 44 444 444 44 4 111",
    ("DELETE", "/tokens/{token}#project"): "1 4+++ 4441 4+4 44 444 444 44 4 111",
    ("DELETE", "/tokens/{token}#pull"): "1 4+++ 4441 4+4 44 444 444 44 4 111",
    ("DELETE", "/tokens/{token}#user"): "1 444+ 4441 444 44 444 444 44 4 111",
    ("GET", "/organisations/{organisation}/deleted"): _MANAGE,
    ("GET", "/organisations/{organisation}/audit"): _MANAGE,
    ("GET", "/audit"): _ADMINISTER,
    ("GET", "/collection"): _ADMINISTER,
    ("GET", "/settings"): _ADMINISTER,
    ("PATCH", "/settings"): _ADMINISTER,
}

# The same for routes about a repository, by where it is.
_PULL = {
    "builds": "1 ++++ 4441 ++4 +4 ++4 +4+ 4+ 4 111",
    "linked": "1 ++++ 4441 ++4 +4 +++ +4+ ++ 4 111",
    "other": "1 ++++ 4441 ++4 44 4++ +4+ ++ 4 111",
    "public": "1 ++++ +++1 +++ ++ +++ +++ ++ + 111",
}
_DELETE_TAG = {
    "builds": "1 3+++ 4441 ++4 +4 334 34+ 4+ 4 111",
    "linked": "1 3+++ 4441 ++4 +4 333 34+ ++ 4 111",
    "other": "1 3+++ 4441 ++4 44 433 34+ ++ 4 111",
    "public": "1 3+++ 3331 ++3 33 333 33+ ++ 3 111",
}
_DELETE = {
    "builds": "1 33++ 4441 ++4 34 334 34+ 4+ 4 111",
    "linked": "1 33++ 4441 ++4 34 333 34+ ++ 4 111",
    "other": "1 33++ 4441 ++4 44 433 34+ ++ 4 111",
    "public": "1 33++ 3331 ++3 33 333 33+ ++ 3 111",
}
_MANAGE_REPOSITORY = {
    "builds": "1 33++ 4441 3+4 34 334 343 43 4 111",
    "linked": "1 33++ 4441 3+4 34 333 343 +3 4 111",
    "other": "1 33++ 4441 3+4 44 433 343 +3 4 111",
    "public": "1 33++ 3331 3+3 33 333 333 +3 3 111",
}
REPOSITORIES: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/repositories/{repository}"): _PULL,
    ("PATCH", "/repositories/{repository}"): _MANAGE_REPOSITORY,
    ("DELETE", "/repositories/{repository}"): _MANAGE_REPOSITORY,
    ("POST", "/repositories/{repository}/restore"): _MANAGE_REPOSITORY,
    ("GET", "/repositories/{repository}/retention"): _PULL,
    ("PUT", "/repositories/{repository}/retention"): _MANAGE_REPOSITORY,
    ("DELETE", "/repositories/{repository}/retention"): _MANAGE_REPOSITORY,
    ("POST", "/repositories/{repository}/retention/preview"): _MANAGE_REPOSITORY,
    ("POST", "/repositories/{repository}/retention/run"): _MANAGE_REPOSITORY,
    ("POST", "/repositories/{repository}/sync"): _MANAGE_REPOSITORY,
    ("GET", "/repositories/{repository}/sync-runs"): _PULL,
    ("GET", "/repositories/{repository}/tags"): _PULL,
    ("GET", "/repositories/{repository}/tags/{tag}"): _PULL,
    ("DELETE", "/repositories/{repository}/tags/{tag}"): _DELETE_TAG,
    ("GET", "/repositories/{repository}/tags/{tag}/history"): _PULL,
    ("POST", "/repositories/{repository}/tags/{tag}/restore"): _DELETE_TAG,
    ("POST", "/repositories/{repository}/retention/restore"): _DELETE_TAG,
    ("GET", "/repositories/{repository}/manifests"): _PULL,
    ("GET", "/repositories/{repository}/manifests/{digest}"): _PULL,
    ("DELETE", "/repositories/{repository}/manifests/{digest}"): _DELETE,
    ("POST", "/repositories/{repository}/manifests/{digest}/restore"): _DELETE,
}

# /v2/: reads hide what may not be seen, writes say no whether it is there or not.
_PULL_BY_NAME = {place: row for place, row in _PULL.items() if place != "public"} | {
    "public": "+ ++++ +++1 +++ ++ +++ +++ ++ + 111"
}
_PUSH_BY_NAME = {
    "builds": "1 3+++ 3331 ++3 +3 333 33+ 3+ 3 111",
    "linked": "1 3+++ 3331 ++3 +3 333 33+ ++ 3 111",
    "other": "1 3+++ 3331 ++3 33 333 33+ ++ 3 111",
    "public": "1 3+++ 3331 ++3 33 333 33+ ++ 3 111",
}
_DELETE_TAG_BY_NAME = _PUSH_BY_NAME
_DELETE_BY_NAME = {
    "builds": "1 33++ 3331 ++3 33 333 33+ 3+ 3 111",
    "linked": "1 33++ 3331 ++3 33 333 33+ ++ 3 111",
    "other": "1 33++ 3331 ++3 33 333 33+ ++ 3 111",
    "public": "1 33++ 3331 ++3 33 333 33+ ++ 3 111",
}
PROTOCOL: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/v2/{name}/manifests/{reference}"): _PULL_BY_NAME,
    ("HEAD", "/v2/{name}/manifests/{reference}"): _PULL_BY_NAME,
    ("GET", "/v2/{name}/manifests/{reference}#digest"): _PULL_BY_NAME,
    ("PUT", "/v2/{name}/manifests/{reference}"): _PUSH_BY_NAME,
    ("DELETE", "/v2/{name}/manifests/{reference}"): _DELETE_TAG_BY_NAME,
    ("DELETE", "/v2/{name}/manifests/{reference}#digest"): _DELETE_BY_NAME,
    ("POST", "/v2/{name}/blobs/uploads[/]"): _PUSH_BY_NAME,
    # Who may only pull has no upload of their own: 404, as everybody else's upload.
    ("GET", "/v2/{name}/blobs/uploads/{upload}"): _PULL_BY_NAME,
    ("PATCH", "/v2/{name}/blobs/uploads/{upload}"): _PUSH_BY_NAME,
    ("PUT", "/v2/{name}/blobs/uploads/{upload}"): _PUSH_BY_NAME,
    ("DELETE", "/v2/{name}/blobs/uploads/{upload}"): _PUSH_BY_NAME,
    ("GET", "/v2/{name}/blobs/{digest}"): _PULL_BY_NAME,
    ("HEAD", "/v2/{name}/blobs/{digest}"): _PULL_BY_NAME,
    ("DELETE", "/v2/{name}/blobs/{digest}"): _DELETE_BY_NAME,
    ("GET", "/v2/{name}/tags/list"): _PULL_BY_NAME,
    ("GET", "/v2/{name}/referrers/{digest}"): _PULL_BY_NAME,
}
# Names below a mirror that have no repository yet. What is not there upstream, or not let through,
# is 404 to whoever may pull there and asked in vain; nobody learns it of a private mirror.
_PULL_MIRRORED = "1 ++++ 4441 ++4 44 4+4 +4+ 4+ 4 111"
_PULL_OPENED = "+ ++++ +++1 +++ ++ +++ +++ ++ + 111"
_PULL_NOTHING = "1 4444 4441 444 44 444 444 44 4 111"
_OPENED_NOTHING = "4 4444 4441 444 44 444 444 44 4 111"  # to log in would not help
_PUSH_NOTHING = "1 3333 3331 333 33 333 333 33 3 111"
_READS = {
    "private": _PULL_MIRRORED,
    "private, absent": _PULL_NOTHING,
    "public": _PULL_OPENED,
    "public, absent": _OPENED_NOTHING,
    "public, denied": _PULL_NOTHING,
}
_REFERRERS = _READS | {"public, absent": _PULL_OPENED}
_REFERRERS |= dict.fromkeys(("private, absent", "public, denied"), _PULL_MIRRORED)
# A manifest comes before its blobs.
_BLOBS = _READS | {"private": _PULL_NOTHING, "public": _OPENED_NOTHING}
# What a mirror does not let through is a name like any other: a first push makes a repository.
_PUSHES = dict.fromkeys(_READS, _PUSH_NOTHING) | {
    "public, denied": "1 3+++ 3331 ++3 33 333 33+ 3+ 3 111"
}
MIRRORED: dict[tuple[str, str], dict[str, str]] = {
    ("GET", "/v2/{name}/manifests/{reference}"): _READS,
    ("HEAD", "/v2/{name}/manifests/{reference}"): _READS,
    ("GET", "/v2/{name}/tags/list"): _READS,
    ("GET", "/v2/{name}/blobs/{digest}"): _BLOBS,
    # Of what is not known an empty list, as anywhere; nobody asks upstream for it.
    ("GET", "/v2/{name}/referrers/{digest}"): _REFERRERS,
    ("POST", "/v2/{name}/blobs/uploads[/]"): _PUSHES,
    ("PUT", "/v2/{name}/manifests/{reference}"): _PUSHES,
}
NAMELESS: dict[tuple[str, str], str] = {
    ("GET", "/v2/_catalog"): "1 ++++ +++1 +++ ++ +++ +++ ++ + 11+",
    ("GET", "/v2/token"): "+ ++++ +++1 +++ ++ +++ +++ ++ + 111",
    ("POST", "/v2/token"): _KNOWN,
    ("GET", "/v2[/]"): "1 ++++ +++1 +++ ++ +++ +++ ++ + 11+",
    ("HEAD", "/v2[/]"): "1 ++++ +++1 +++ ++ +++ +++ ++ + 11+",
}
# For whoever can reach the port: no credential is looked at. Metrics and readiness are for this
# machine alone, as tests/web shows.
OPERATION: dict[tuple[str, str], str] = {
    (method, path): "+ ++++ ++++ +++ ++ +++ +++ ++ + +++"
    for path in ("/", "/join", "/healthz", "/readyz", "/metrics")
    for method in ("GET", "HEAD")
}


def outcome(row: str, principal: str) -> str:
    """The letter of a principal in a row."""
    letters = row.replace(" ", "")
    assert len(letters) == len(PRINCIPALS), row
    return letters[PRINCIPALS.index(principal)]
