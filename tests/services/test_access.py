"""Who may do what, against intersections of sets (T56): nothing ever widens."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.identity.bearer import BearerKey
from entrepot.identity.keys import KeyRing, SecretKey
from entrepot.model.access import Action, Actor, Credential, Kind, Place, Repository, Role, is_match
from entrepot.model.errors import Denied, NameUnknown, Unauthenticated
from entrepot.model.names import RepositoryName
from entrepot.model.scopes import parse_scopes
from entrepot.services.access import Access
from entrepot.services.addresses import Address
from entrepot.services.token_service import TokenService
from tests.support.clock import FakeClock

CONTENT = {"pull", "push", "delete"}
ORGANISATIONS = [1, 2, 3]
PATHS = ["app", "team/app", "team/web"]
NOW = FakeClock().time
OF_ORGANISATIONS = {Kind.ORGANISATION, Kind.PROJECT, Kind.PULL}
LIMITED = {Kind.USER, *OF_ORGANISATIONS}  # nobody has no token, and the operator has no limits

# Each organisation has one project, ten times its own number; it is linked to that repository
# whose id is a hundred times the number.
places = st.builds(
    lambda organisation, path, in_project, creators: Place(
        organisation, path, organisation * 10 if in_project else None, creators
    ),
    st.sampled_from(ORGANISATIONS),
    st.sampled_from(PATHS),
    st.booleans(),
    st.sampled_from([Role.MEMBER, Role.ADMIN]),
)
repositories = st.builds(
    lambda organisation, path, in_project, is_linked, is_public: Repository(
        organisation * 100 + (0 if is_linked else 1),
        organisation,
        path,
        organisation * 10 if in_project else None,
        is_public=is_public,
    ),
    st.sampled_from(ORGANISATIONS),
    st.sampled_from(PATHS),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
roles = st.dictionaries(st.sampled_from(ORGANISATIONS), st.sampled_from(Role), max_size=3)
words = st.frozensets(st.sampled_from(["pull", "push", "delete", "manage", "odd"]))
credentials = st.builds(
    lambda kind, roles, ends, organisation, project, manage, administers, patterns, actions: (
        Credential(
            5,
            kind,
            roles=roles if kind is Kind.USER else {},
            role_ends=ends if kind is Kind.USER else {},
            is_administrator=administers and kind is Kind.USER,
            may_manage=manage and kind is Kind.ORGANISATION,
            organisation_id=None if kind not in OF_ORGANISATIONS else organisation,
            project_id=organisation * 10
            if kind is Kind.PROJECT or (kind is Kind.PULL and project)
            else None,
            linked=frozenset({organisation * 100})
            if kind is Kind.PROJECT or (kind is Kind.PULL and project)
            else frozenset(),
            patterns=patterns if kind in LIMITED else None,
            actions=actions if kind in LIMITED else None,
        )
    ),
    st.sampled_from(Kind),
    roles,
    st.dictionaries(st.sampled_from(ORGANISATIONS), st.sampled_from([NOW - 1, NOW, NOW + 10**9])),
    st.sampled_from(ORGANISATIONS),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.none() | st.lists(st.sampled_from(["**", "app", "team/*", "x"]), max_size=2).map(tuple),
    st.none() | words,
)
grants = st.none() | st.dictionaries(
    st.sampled_from(PATHS), st.frozensets(st.sampled_from(sorted(CONTENT))), max_size=3
)


class Everywhere:
    """Addresses for tests of the judge alone: the label is the organisation's number."""

    async def find(self, _, address):
        return Place(int(address.label), address.name.text, int(address.label) * 10)


class Nothing:
    """A database that is asked for nothing."""

    def read(self, **_):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None


# What roles may do: an organisation's own words, one sentence each.
READS = "pull catalog browse see-organisation see-usage"
MEMBERS_ADD = "push create-repository create-project delete-tag create-pull-token"
ADMINS_ADD = (
    "delete manage-repository manage-project manage-tokens manage-members manage-organisation audit"
    " manage-upstreams"
)
OWNERS_ADD = "manage-owners own-organisation"
OF_ROLES = {
    Role.READER: READS,
    Role.MEMBER: f"{READS} {MEMBERS_ADD}",
    Role.ADMIN: f"{READS} {MEMBERS_ADD} {ADMINS_ADD}",
    Role.OWNER: f"{READS} {MEMBERS_ADD} {ADMINS_ADD} {OWNERS_ADD}",
}
OF_SERVER = "administer see-organisation see-usage manage-organisation own-organisation"
# What a token's word lets through; `manage` is for all that is left.
COVERED = {
    "pull": READS,
    "push": "push create-repository",
    "delete": "delete delete-tag",
}
MANAGEMENT = {str(action) for action in Action} - set(" ".join(COVERED.values()).split())


def role_of(credential, organisation_id):
    if credential.role_ends.get(organisation_id, NOW + 1) <= NOW:
        return None
    return credential.roles.get(organisation_id)


def is_of_project(credential, where):
    if credential.organisation_id != where.organisation_id:
        return False
    own = where.project_id is not None and credential.project_id == where.project_id
    return own or (isinstance(where, Repository) and where.id == where.organisation_id * 100)


def owner_may(credential, organisation_id, where):
    """What a credential's kind and its owner's present role give."""
    ours = credential.organisation_id == organisation_id
    match credential.kind:
        case Kind.OPERATOR:
            return {str(action) for action in Action}
        case Kind.USER:
            role = role_of(credential, organisation_id)
            given = OF_ROLES[role] if role else ""
            server = OF_SERVER if credential.is_administrator and where is None else ""
            return {*given.split(), *server.split()}
        case Kind.ORGANISATION if ours and credential.may_manage:
            return set(OF_ROLES[Role.ADMIN].split())
        case Kind.ORGANISATION if ours:
            return {*READS.split(), "push", "create-repository", "delete-tag", "delete"}
        case Kind.PROJECT if where is not None and is_of_project(credential, where):
            return {"pull", "push", "delete-tag", "create-repository"}
        case Kind.PULL if credential.project_id is not None:
            return {"pull"} if where is not None and is_of_project(credential, where) else set()
        case _:
            reaches = {Kind.PULL: ours, Kind.ANONYMOUS: organisation_id == 1}
            return {"pull"} if reaches.get(credential.kind) else set()


def covered(credential):
    """What the words of a token let through; only all four let give rights to people."""
    if credential.actions is None:
        return {str(action) for action in Action}
    found = {action for word in credential.actions for action in COVERED.get(word, "").split()}
    if "manage" in credential.actions:
        found |= MANAGEMENT
    if not credential.actions >= {"pull", "push", "delete", "manage"}:
        found -= {"manage-members", "manage-owners"}
    return found


def may_create(credential, place):
    """An organisation may leave it to administrators to make repositories, but for projects."""
    if place.project_id is not None or place.creators is Role.MEMBER:
        return True
    if credential.kind is Kind.USER:
        return role_of(credential, place.organisation_id) in {Role.ADMIN, Role.OWNER}
    return credential.may_manage or credential.kind in {Kind.ANONYMOUS, Kind.OPERATOR}


def may(credential, where):
    """Owner's rights AND the token's words AND its patterns AND what the registry allows."""
    found = owner_may(credential, where.organisation_id, where) & covered(credential)
    if isinstance(where, Place) and not may_create(credential, where):
        found -= {"push", "create-repository"}
    if credential.patterns is not None and not any(
        is_match(pattern, where.path) for pattern in credential.patterns
    ):
        found = set()
    return found | ({"pull"} if isinstance(where, Repository) and where.is_public else set())


def may_in(credential, organisation_id):
    """The same for an organisation as a whole: patterns of paths leave looking at it."""
    found = owner_may(credential, organisation_id, None) & covered(credential)
    if credential.patterns is not None:
        found &= {"browse", "see-organisation", "catalog"}
    return found


def at_now():
    """A clock at `NOW`: the generated ends of roles are near it, however late the test runs."""
    clock = FakeClock()
    clock.time = NOW
    return clock


def judge(anonymous=frozenset({Action.PULL}), clock=None):
    access = Access(clock or at_now(), cast("Any", Everywhere()), anonymous)
    access.set_default_organisation(1)
    return access


@given(credentials, places | repositories)
def test_a_right_is_the_owners_and_the_tokens(credential, where):
    allowed = {str(action) for action in judge().allowed(credential, where)}

    # A right to push where nothing is comes with the right to make it.
    assert allowed == may(credential, where)


@given(credentials, st.sampled_from(ORGANISATIONS))
def test_a_right_to_an_organisation_is_the_owners_and_the_tokens(credential, organisation):
    allowed = {str(action) for action in judge().allowed_in(credential, organisation)}

    assert allowed == may_in(credential, organisation)


@given(credentials, places | repositories, grants, st.sampled_from(sorted(CONTENT)))
def test_a_bearer_token_never_widens_and_a_refusal_tells_nothing(
    credential, where, granted, wanted
):
    actor, action = Actor(credential, granted), Action(wanted)
    address = Address(None, RepositoryName.parse(where.path))
    is_covered = granted is None or wanted in granted.get(where.path, ())
    is_asked_for = granted is None or where.path in granted

    try:
        judge().require(actor, action, where, address)
    except Unauthenticated:
        assert not is_covered or (actor.is_anonymous and granted is None)
        assert not is_asked_for or actor.is_anonymous or wanted in may(credential, where)
    except NameUnknown:
        assert wanted == "pull"
        assert is_asked_for
    except Denied:
        assert wanted != "pull"
        assert is_asked_for
    else:
        assert is_covered
        assert wanted in may(credential, where)
        return
    assert not (is_covered and wanted in may(credential, where))


@given(credentials, places)
def test_who_may_pull_something_may_list(credential, place):
    if "pull" in may(credential, place):
        assert judge().may_list(credential, place.organisation_id)


_WANTED = st.lists(
    st.tuples(
        st.sampled_from(["repository", "repository(plugin)", "registry", "odd"]),
        st.sampled_from([*PATHS, "UPPER", "catalog", "*"]),
        st.lists(st.sampled_from(["pull", "push", "delete", "*", "odd"]), min_size=1, max_size=4),
    ),
    max_size=6,
)


@given(credentials, st.sampled_from(ORGANISATIONS), _WANTED)
async def test_issued_is_within_requested_and_the_tokens_and_the_owners(
    credential, organisation, wanted
):
    key, clock = BearerKey(KeyRing(SecretKey.of(b"k" * 32))), at_now()
    service = TokenService(
        cast("Any", Nothing()),
        clock,
        access=judge(),
        addresses=cast("Any", Everywhere()),
        key=key,
        lifetime=300,
    )
    texts = [f"{kind}:{name}:{','.join(actions)}" for kind, name, actions in wanted]

    token = await service.issue(
        Actor(credential), parse_scopes(texts), audience="host", label=str(organisation)
    )

    expected: dict[str, set[str]] = {}
    for kind, name, actions in wanted:
        if kind.startswith("repository") and name in {*PATHS, "catalog"}:
            asked = CONTENT if "*" in actions else CONTENT & set(actions)
            allowed = may(credential, Place(organisation, name, organisation * 10))
            issued = asked & (allowed | {"delete" for _ in allowed & {"delete-tag"}})
            expected[name] = expected.get(name, set()) | issued
        if kind == "registry" and name == "catalog" and "*" in actions:
            expected["registry:catalog"] = {"*"}
    claims = key.read(token.text, "host")
    assert claims
    assert claims.access == expected
    given = {word for scope in token.scope.split() for word in scope.rpartition(":")[2].split(",")}
    assert given <= CONTENT | {"*"}
    assert key.read(token.text, "other") is None
    assert claims.token_id == 5


@given(st.integers(0, 10_000_000_000), st.booleans())
def test_a_right_that_expired_only_finishes_and_only_for_an_hour(after, is_finishing):
    clock = at_now()
    access = judge(clock=clock)
    expires_at = clock.time + 5
    actor = Actor(Credential(1, Kind.USER), expires_at=expires_at)
    clock.advance(after)
    now = clock.time + 1

    is_over = now >= expires_at
    is_let = not is_over or (is_finishing and now < expires_at + 3_600_000_000)

    if is_let:
        limit = access.opened_before(actor, is_finishing=is_finishing)
        assert limit == (expires_at if is_over else 2**62)
    else:
        with pytest.raises(Unauthenticated):
            access.opened_before(actor, is_finishing=is_finishing)
