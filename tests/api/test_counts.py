"""How many tokens, projects and invitations there may be at once."""

import secrets

import pytest

from entrepot.model.clock import DAY, SystemClock

# Rows 1 to :count of `n`, to be inserted as whatever is counted.
COUNTED = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "


class Fill:
    """Makes rows of a table at once; the values are SQL, in which `i` is the row's number."""

    def __init__(self, registry):
        self._registry = registry
        self._taken = 2**62 + secrets.randbits(60)
        self.hash = f"'{self._taken}-' || i"
        self.public_id = f"'{secrets.token_hex(6)}-' || i"

    def __call__(self, table, count, **columns):
        rows = {"id": f"{self._taken} + i", "created_at": "1"} | columns
        self._registry.change(
            f"INSERT INTO {table} ({', '.join(rows)}) {COUNTED.format(count=count)}"
            f"SELECT {', '.join(rows.values())} FROM n"
        )

    def tokens(self, count, **columns):
        row = {"kind": "'org'", "hash": self.hash, "name": "''"}
        self("tokens", count, **row | columns)


@pytest.fixture
def fill(registry):
    return Fill(registry)


@pytest.fixture
def organisation(people):
    return people.organisation()


@pytest.fixture
def organisation_id(registry, organisation):
    [(found,)] = registry.rows("SELECT id FROM organisations WHERE slug = :s", s=organisation)
    return str(found)


def user_id(registry, user):
    [(found,)] = registry.rows("SELECT id FROM users WHERE name = :name", name=user.name)
    return str(found)


def later():
    return str(SystemClock().now() + DAY)


def test_an_organisation_has_at_most_10000_tokens(people, fill, organisation, organisation_id):
    path = f"/organisations/{organisation}/tokens"
    fill.tokens(
        9_999, organisation_id=organisation_id, expires_at=f"CASE i % 2 WHEN 0 THEN {later()} END"
    )

    last = people.admin.post(path, {"kind": "org"})
    refused = people.admin.post(path, {"kind": "pull"})
    gone = people.admin.delete(f"/tokens/{last.json()['id']}")
    again = people.admin.post(path, {"kind": "pull"})

    assert last.status_code == 201
    assert refused.status_code == 403
    assert "10,000 tokens" in refused.json()["detail"]
    assert "revoke" in refused.json()["detail"]
    assert (gone.status_code, again.status_code) == (204, 201)


@pytest.mark.parametrize("column", ["expires_at", "revoked_at"])
def test_tokens_that_ended_do_not_count(people, fill, organisation, organisation_id, column):
    fill.tokens(10_000, organisation_id=organisation_id, **{column: "2"})

    made = people.admin.post(f"/organisations/{organisation}/tokens", {"kind": "org"})

    assert made.status_code == 201


def test_a_user_has_at_most_1000_tokens(registry, people, fill):
    user = people.user(password="correct horse battery")
    fill.tokens(998, user_id=user_id(registry, user), kind="'user'")
    login = {"name": user.name, "password": "correct horse battery"}

    last = user.post("/tokens", {})
    refused = [user.post("/tokens", {}), people.nobody.post("/login", login)]
    user.delete(f"/tokens/{last.json()['id']}")
    again = people.nobody.post("/login", login)

    assert last.status_code == 201
    assert [answer.status_code for answer in refused] == [403, 403]
    assert all("1,000 tokens" in answer.json()["detail"] for answer in refused)
    assert again.status_code == 201


def test_an_organisation_has_at_most_10000_projects(people, fill, organisation, organisation_id):
    path = f"/organisations/{organisation}/projects"
    elsewhere = people.organisation()
    other = people.admin.made(f"/organisations/{elsewhere}/projects", {"name": "other"})
    fill("projects", 9_999, organisation_id=organisation_id, public_id=fill.public_id, name="'a'")

    last = people.admin.post(path, {"name": "last"})
    refused = people.admin.post(path, {"name": "more"})
    moved = people.admin.post(f"/projects/{other['id']}/transfer", {"organisation": organisation})
    people.admin.delete(f"/projects/{last.json()['id']}")
    again = people.admin.post(path, {"name": "more"})

    assert last.status_code == 201
    assert (refused.status_code, moved.status_code) == (403, 403)
    assert "10,000 projects" in refused.json()["detail"]
    assert refused.json()["detail"] == moved.json()["detail"]
    assert again.status_code == 201


def test_an_organisation_has_at_most_1000_open_invitations(
    people, fill, organisation, organisation_id
):
    path = f"/organisations/{organisation}/invitations"
    row = {
        "organisation_id": organisation_id,
        "role": "'member'",
        "hash": fill.hash,
        "note": "''",
        "created_by": "1",
        "expires_at": later(),
    }
    fill("invitations", 999, **row)

    last = people.admin.post(path, {})
    refused = people.admin.post(path, {})
    people.admin.delete(f"{path}/{last.json()['id']}")
    again = people.admin.post(path, {})

    assert last.status_code == 201
    assert refused.status_code == 403
    assert "1,000 open invitations" in refused.json()["detail"]
    assert again.status_code == 201


def test_the_log_says_what_a_new_token_may_manage_and_when_it_ends(people, organisation):
    path = f"/organisations/{organisation}/tokens"
    ends = people.admin.made(path, {"kind": "org", "expires_in": 3_600, "may_manage": True})
    people.admin.made(path, {"kind": "org"})

    newer, older = people.audit(organisation, action="token.created")

    assert (newer["details"]["may_manage"], newer["details"]["expires_at"]) == (False, None)
    assert older["details"]["may_manage"] is True
    assert older["details"]["expires_at"] == ends["expires_at"]
