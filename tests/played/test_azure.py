"""The played Azure registry and Entra do what Microsoft's documentation says."""

import pytest

from tests.support.upstreams.azure import NOBODY, ContainerRegistry, Entra

SCOPE = "https://containerregistry.azure.net/.default"


@pytest.fixture
def entra():
    server = Entra()
    with server.running():
        yield server


@pytest.fixture
def registry(entra):
    server = ContainerRegistry(entra)
    with server.running():
        server.put_image("app", "1")
        yield server


@pytest.fixture
def principal(entra, registry):
    tenant, client, secret = entra.add_principal()
    registry.roles[client] = {"app"}
    return tenant, client, secret


def sign_in(entra, http, principal, **changes):
    tenant, client, secret = principal
    form = {
        "grant_type": "client_credentials",
        "client_id": client,
        "client_secret": secret,
        "scope": SCOPE,
    }
    return http.post(f"{entra.origin}/{tenant}/oauth2/v2.0/token", data=form | changes)


def exchange(registry, http, principal, access_token, **changes):
    form = {
        "grant_type": "access_token",
        "service": registry.address,
        "tenant": principal[0],
        "access_token": access_token,
    }
    return http.post(f"{registry.origin}/oauth2/exchange", data=form | changes)


def refresh(registry, http, refresh_token, scope="repository:app:pull", **changes):
    form = {
        "grant_type": "refresh_token",
        "service": registry.address,
        "scope": scope,
        "refresh_token": refresh_token,
    }
    return http.post(f"{registry.origin}/oauth2/token", data=form | changes)


def refresh_token_of(entra, registry, http, principal):
    signed_in = sign_in(entra, http, principal).json()["access_token"]
    return exchange(registry, http, principal, signed_in).json()["refresh_token"]


def pull(registry, http, token, path="app/manifests/1"):
    bearer = {"authorization": f"Bearer {token}"}
    return http.get(f"{registry.origin}/v2/{path}", headers=bearer)


def test_a_principal_gets_from_entra_to_a_manifest_in_three_steps(entra, registry, http, principal):
    refresh_token = refresh_token_of(entra, registry, http, principal)

    answer = refresh(registry, http, refresh_token)

    assert set(answer.json()) == {"access_token"}
    assert pull(registry, http, answer.json()["access_token"]).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "number"),
    [
        ({"client_secret": "no"}, 401, "AADSTS7000215"),
        ({"client_id": "no"}, 400, "AADSTS700016"),
        ({"scope": "https://graph.microsoft.com/.default"}, 400, "AADSTS70011"),
        ({"grant_type": "password"}, 400, "AADSTS70003"),
    ],
)
def test_entra_says_what_was_wrong(entra, http, principal, changes, status, number):
    refused = sign_in(entra, http, principal, **changes)

    assert refused.status_code == status
    assert number in refused.json()["error_description"]


def test_the_exchange_refuses_another_service_tenant_or_an_old_token(
    entra, registry, http, principal
):
    token = sign_in(entra, http, principal).json()["access_token"]
    other = exchange(registry, http, principal, token, service="other.azurecr.io")
    tenant = exchange(registry, http, principal, token, tenant="other")
    now = entra.now()
    entra.now = lambda: now + 3600
    old = exchange(registry, http, principal, token)

    assert [answer.status_code for answer in (other, tenant, old)] == [400, 401, 401]


def test_a_refresh_token_stops_working_after_a_time(entra, registry, http, principal):
    token = refresh_token_of(entra, registry, http, principal)
    now = entra.now()
    entra.now = lambda: now + 3 * 3600 + 1

    assert refresh(registry, http, token).status_code == 401


def test_an_access_token_is_no_refresh_token_and_neither_opens_the_other_door(
    entra, registry, http, principal
):
    token = refresh_token_of(entra, registry, http, principal)
    access = refresh(registry, http, token).json()["access_token"]

    assert pull(registry, http, token).status_code == 401
    assert refresh(registry, http, access).status_code == 401


def test_tags_need_another_action_than_content(entra, registry, http, principal):
    token = refresh_token_of(entra, registry, http, principal)
    access = refresh(registry, http, token).json()["access_token"]

    refused = pull(registry, http, access, "app/tags/list")

    assert 'scope="repository:app:metadata_read"' in refused.headers["www-authenticate"]
    wider = refresh(registry, http, token, "repository:app:metadata_read").json()["access_token"]
    assert pull(registry, http, wider, "app/tags/list").json()["tags"] == ["1"]


def test_basic_gets_a_token_with_the_secret_or_a_refresh_token(entra, registry, http, principal):
    asked = {"service": registry.address, "scope": "repository:app:pull"}
    pairs = [principal[1:], (NOBODY, refresh_token_of(entra, registry, http, principal))]

    for pair in pairs:
        answer = http.get(f"{registry.origin}/oauth2/token", params=asked, auth=pair)
        assert pull(registry, http, answer.json()["access_token"]).status_code == 200


def test_a_principal_without_the_role_is_refused_by_the_registry(entra, registry, http, principal):
    registry.roles.clear()
    token = refresh_token_of(entra, registry, http, principal)
    access = refresh(registry, http, token).json()["access_token"]

    refused = pull(registry, http, access)

    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
