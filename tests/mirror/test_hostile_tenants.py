"""What one organisation's credential fetched is not another's, until that one's own has proved it."""

import pytest

from tests.api.caller import People
from tests.support.server import Client, digest_of
from tests.support.upstreams import Realm, Reply, bearer_upstream, faults

PATH = "team/private"


@pytest.fixture
def upstream():
    """A registry where jo may read team/private, and sam only what is his."""
    people = {"jo": "secret-of-jo", "sam": "secret-of-sam"}
    realm = Realm(people=people, anonymous=False)
    realm.may_read = lambda user, name: name.startswith("sam/") or user == "jo"
    server = bearer_upstream(realm)
    with server.running():
        server.put_image("sam/own", "1")
        yield server


@pytest.fixture
def image(upstream):
    return upstream.put_image(PATH, "1")


def credential(user):
    return {"kind": "basic", "username": user, "password": f"secret-of-{user}"}


@pytest.fixture
def jo(stand, upstream, image):
    """The organisation whose credential may read it, and which has pulled it."""
    cache = stand.cache(
        upstream, PATH, organisation=stand.organisation(), credential=credential("jo")
    )
    assert cache.manifest("1").body == image.body
    for digest in (image.config, *image.layers):
        assert digest_of(cache.blob(digest).body) == digest
    stand.wait_for_no_spools()
    upstream.log.clear()
    return cache


def other(stand, upstream, path, user):
    """A repository of another organisation."""
    return stand.cache(
        upstream, path, organisation=stand.organisation(), credential=credential(user)
    )


def test_another_organisation_without_the_right_gets_nothing(stand, upstream, image, jo):
    sam = other(stand, upstream, "sam/own", "sam")
    missing = digest_of(b"nobody has this")

    answers = [sam.blob(layer) for layer in (*image.layers, image.config)]

    assert {answer.status for answer in answers} == {sam.blob(missing).status}
    assert sam.manifest(image.digest).status == sam.manifest(missing).status == 404
    assert sam.get(f"blobs/{image.layers[0]}", "HEAD").status == 404


def test_a_path_that_the_credential_may_not_read_cannot_be_cached(stand, upstream, image, jo):
    saved = stand.add_upstream(upstream, stand.organisation(), credential=credential("sam"))
    body = {"path": "stolen", "upstream": {"name": saved["name"], "path": PATH}}

    refused = stand.admin.post(f"/organisations/{saved['organisation']}/repositories", body)

    assert refused.status_code == 422, refused.text


def test_a_credential_that_lost_its_right_gets_no_blob_of_another(stand, upstream, image, jo):
    late = other(stand, upstream, PATH, "jo")
    upstream.login.realm.people.pop("jo")
    upstream.login.realm.revoke_all()

    answer = late.blob(image.layers[0])

    assert answer.status in {403, 502}
    assert upstream.log.count(kind="blob", method="GET", status=200) == 0


def test_another_organisation_with_the_right_gets_it_for_one_head(stand, upstream, image, jo):
    late = other(stand, upstream, PATH, "jo")
    upstream.log.clear()

    answer = late.blob(image.layers[0])

    assert digest_of(answer.body) == image.layers[0]
    assert upstream.log.count(kind="blob", method="HEAD", status=200) == 1
    assert upstream.log.count(kind="blob", method="GET") == 0


def test_a_proof_is_of_this_upstream_and_of_no_other(stand, upstream, image, jo):
    """The same path at another port, which has no such blob."""
    elsewhere = bearer_upstream(Realm(people={"jo": "secret-of-jo"}, anonymous=False))
    with elsewhere.running():
        elsewhere.put_image(PATH, "1")
        cache = other(stand, elsewhere, PATH, "jo")

        answer = cache.blob(image.layers[0])

    assert answer.status == 404
    assert not upstream.log.entries


def assert_a_yes_opens_nothing(stand, liar, path, digest, **fields):
    """Another organisation asks through a registry that claims to have a blob."""
    cache = stand.cache(liar, path, organisation=stand.organisation(), **fields)
    yes = Reply(200, {"Content-Length": "1000", "Docker-Content-Digest": digest})
    liar.script(faults.answer(yes), kind="blob", method="HEAD")
    liar.log.clear()

    answer = cache.blob(digest)

    assert answer.status == 404
    assert liar.log.count(kind="blob", method="GET") == 1


@pytest.mark.parametrize("is_pushed", [False, True])
def test_a_registry_that_says_yes_to_everything_opens_nothing_of_others(
    stand, image, jo, is_pushed
):
    """HEAD proves access to that registry alone: whoever runs one could read everything else."""
    digest = image.layers[0]
    if is_pushed:
        digest = stand.pusher.push_blob("hosted/app", b"a secret " * 100)
    liar = bearer_upstream(Realm())
    with liar.running():
        liar.put_image("x/y", "1")

        assert_a_yes_opens_nothing(stand, liar, "x/y", digest)


def test_what_was_pushed_beside_is_not_the_upstreams_to_give(stand, upstream):
    beside = accepting(stand, stand.cache(upstream, "sam/own", credential=credential("jo")))
    digest = stand.pusher.push_blob(beside.name, b"a secret of ours " * 100)

    assert_a_yes_opens_nothing(stand, upstream, "sam/own", digest, credential=credential("sam"))


def test_what_was_pushed_beside_once_is_not_either(stand, upstream):
    beside = accepting(stand, stand.cache(upstream, "sam/own", credential=credential("jo")))
    made = stand.pusher.make_image(beside.name)
    stand.pusher.push_manifest(beside.name, "ours", made)
    accepting(stand, beside, pushes=False)

    digest = made["layers"][0]["digest"]
    assert_a_yes_opens_nothing(stand, upstream, "sam/own", digest, credential=credential("sam"))


def accepting(stand, cache, *, pushes=True):
    """The same repository, which takes pushes from now on, or no more."""
    answer = stand.admin.get(f"/repositories/{cache.id}")
    changed = stand.admin.patch(
        f"/repositories/{cache.id}",
        {"upstream": {"accepts_push": pushes}},
        headers={"if-match": answer.headers["etag"]},
    )
    assert changed.status_code == 200, changed.text
    return cache


def test_a_client_needs_a_right_here_whatever_the_upstream_allows(stand, upstream, image, jo):
    people = People(stand.registry, [])
    stranger = people.user()
    client = Client(stand.registry.server, token=stranger.token)
    try:
        for path in (f"manifests/{image.digest}", f"blobs/{image.layers[0]}", "tags/list"):
            assert client.request("GET", f"/v2/{jo.name}/{path}").status_code in {403, 404}
    finally:
        client.close()
        for caller in people.callers:
            caller.close()
    assert not upstream.log.entries


def test_what_is_pushed_here_is_not_proved_by_an_upstream(stand, upstream, jo):
    """A blob of a hosted repository of another organisation stays its own."""
    secret = b"pushed by somebody else " * 50
    digest = stand.pusher.push_blob("hosted/app", secret)

    assert jo.blob(digest).status == 404
    assert upstream.log.count(kind="blob", method="GET", status=200) == 0
