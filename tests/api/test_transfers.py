"""What a project takes along to another organisation, and that nothing of before works there."""

import pytest

from tests.api.caller import pull
from tests.support.eventually import REVOKED_WITHIN, eventually
from tests.support.server import OCI_MANIFEST


class Moved:
    """A project with builds, tokens, links and an open upload that goes to another organisation."""

    def __init__(self, people, registry, slug, owner, project, protocol):
        self.project, self.slug = project["id"], slug
        self.target = people.organisation()
        self.receiver = people.member(self.target, "admin")
        self.tokens = [
            registry.new_token(kind, slug, project=self.project) for kind in ("project", "pull")
        ]
        self.builder = protocol(self.tokens[0])
        self.builder.push_image(self.project, "v1", layers=2)
        self.upload = self.builder.request("POST", f"/v2/{self.project}/blobs/uploads/").headers[
            "location"
        ]
        self.old = protocol(owner)
        self.old_upload = self.old.request("POST", f"/v2/{self.project}/blobs/uploads/").headers[
            "location"
        ]
        app = owner.made(f"/organisations/{slug}/repositories", {"path": "app"})
        owner.put(f"/projects/{self.project}/repositories/{app['id']}")
        sibling = owner.made(f"/organisations/{slug}/projects", {"name": "sibling"})["id"]
        (builds,) = owner.items(f"/organisations/{slug}/repositories?path={self.project}")
        owner.put(f"/projects/{sibling}/repositories/{builds['id']}")
        self.sibling = protocol(registry.new_token("project", slug, project=sibling))
        assert pull(self.sibling, self.project) == 200
        self.builds = builds["id"]


@pytest.fixture
def moved(people, registry, slug, owner, project, protocol):
    made = Moved(people, registry, slug, owner, project, protocol)
    mover = people.user()
    for organisation, role in ((slug, "admin"), (made.target, "member")):
        invitation = people.admin.made(f"/organisations/{organisation}/invitations",
                                       {"role": role})["invitation"]  # fmt: skip
        mover.made("/invitations/accept", {"invitation": invitation})
    answer = mover.post(f"/projects/{made.project}/transfer", {"organisation": made.target})
    assert answer.status_code == 200, answer.text
    assert answer.json()["organisation"]["slug"] == made.target
    return made


def test_after_a_transfer_nothing_of_before_works(moved, owner, protocol):
    ours = moved.project

    begun = [client.request("POST", f"/v2/{ours}/blobs/uploads/").status_code
             for client in (moved.builder, moved.old, moved.sibling)]  # fmt: skip
    assert begun == [401, 403, 403]
    for client, upload in ((moved.builder, moved.upload), (moved.old, moved.old_upload)):
        assert client.request("PATCH", upload, content=b"more").status_code in {401, 403, 404}
    assert owner.get(f"/projects/{ours}").status_code == 404
    assert owner.get(f"/repositories/{moved.builds}").status_code == 404
    for token in moved.tokens:
        eventually(lambda token=token: pull(protocol(token), ours) == 401, within=REVOKED_WITHIN)
    for client in (moved.old, moved.sibling):
        eventually(lambda client=client: pull(client, ours) == 404, within=REVOKED_WITHIN)


def test_the_new_organisation_has_the_builds_and_the_old_address_leads_nowhere(
    moved, registry, protocol
):
    receiver = protocol(moved.receiver)
    port = registry.public_host.partition(":")[2]
    host = f"{{}}.registry.localhost:{port}".format

    assert pull(receiver, moved.project) == 200
    assert pull(receiver, f"{moved.target}/{moved.project}") == 200
    assert pull(receiver, moved.project, headers={"host": host(moved.target)}) == 200
    assert pull(receiver, f"{moved.slug}/{moved.project}") == 404
    assert pull(moved.old, moved.project, headers={"host": host(moved.slug)}) == 404
    (builds,) = moved.receiver.items(f"/organisations/{moved.target}/repositories")
    assert (builds["id"], builds["project"]["id"]) == (moved.builds, moved.project)
    assert moved.receiver.get(f"/projects/{moved.project}").status_code == 200
    assert moved.receiver.items(f"/projects/{moved.project}/repositories") == []
    receiver.push_image(moved.project, "v2")


def test_a_transfer_moves_what_is_paid_for(moved, registry, people):
    def bytes_of(slug):
        ((owned, counted),) = registry.rows(
            """
            SELECT COALESCE(SUM(CASE WHEN d.repository_id IS NULL THEN d.bytes END), 0),
                   COALESCE(SUM(CASE WHEN d.repository_id IS NOT NULL THEN d.bytes END), 0)
              FROM byte_deltas AS d
              JOIN organisations AS o ON o.id = d.organisation_id
             WHERE o.slug = :slug
            """,
            slug=slug,
        )
        return owned, counted

    ((held,),) = registry.rows(
        """
        SELECT SUM(size)
          FROM (SELECT b.size AS size
                  FROM blob_links AS l
                  JOIN blobs AS b ON b.digest = l.digest
                  JOIN repositories AS r ON r.id = l.repository_id
                 WHERE r.path = :path
                 UNION ALL
                SELECT m.size
                  FROM manifests AS m
                  JOIN repositories AS r ON r.id = m.repository_id
                 WHERE r.path = :path) AS held
        """,
        path=moved.project,
    )

    assert bytes_of(moved.slug) == (0, 0)
    assert bytes_of(moved.target) == (held, held)
    assert registry.rows("SELECT 1 FROM uploads WHERE expires_at > 0 AND repository_id IN "
                         "(SELECT id FROM repositories WHERE path = :path)",
                         path=moved.project) == []  # fmt: skip
    for slug in (moved.slug, moved.target):
        assert "project.transferred" in people.actions(slug)


def test_a_transfer_needs_a_right_in_both_organisations(people, slug, owner, project):
    target = people.organisation()
    path = f"/projects/{project['id']}/transfer"
    reader = people.member(slug, "reader")

    assert owner.post(path, {"organisation": target}).status_code == 404
    assert owner.post(path, {"organisation": "no-such"}).status_code == 404
    assert reader.post(path, {"organisation": slug}).status_code == 403
    assert owner.post(path, {"organisation": slug}).json() == project


def test_a_transfer_is_refused_where_the_path_is_taken_or_read_only(people, slug, project):
    target, admin = people.organisation(), people.admin
    path = f"/projects/{project['id']}/transfer"
    squatter = admin.made(f"/organisations/{target}/repositories", {"path": project["id"]})

    assert admin.post(path, {"organisation": target}).status_code == 409
    assert admin.delete(f"/repositories/{squatter['id']}").status_code == 204
    for organisation in (slug, target):
        admin.patch(f"/organisations/{organisation}", {"is_read_only": True})
        assert admin.post(path, {"organisation": target}).status_code == 403
        admin.patch(f"/organisations/{organisation}", {"is_read_only": False})
    assert admin.post(path, {"organisation": target}).status_code == 200


def test_shared_content_is_counted_once_on_both_sides_of_a_transfer(
    people, registry, slug, protocol
):
    both = people.member(slug, "admin")
    target = people.organisation()
    invitation = people.admin.made(f"/organisations/{target}/invitations", {"role": "admin"})
    both.made("/invitations/accept", {"invitation": invitation["invitation"]})
    ours = both.made(f"/organisations/{slug}/projects", {"name": "site"})["id"]
    client = protocol(both)
    image = client.make_image(ours)
    contents = [
        client.request("GET", f"/v2/{ours}/blobs/{part['digest']}").content
        for part in (image["config"], *image["layers"])
    ]
    client.push_manifest(ours, "v1", image)
    for name in (f"{slug}/copy", f"{target}/copy"):
        for content in contents:
            client.push_blob(name, content)
        client.push_manifest(name, "v1", image, OCI_MANIFEST)

    both.post(f"/projects/{ours}/transfer", {"organisation": target})

    totals = registry.rows(
        """
        SELECT o.slug, SUM(d.bytes)
          FROM byte_deltas AS d
          JOIN organisations AS o ON o.id = d.organisation_id
         WHERE d.repository_id IS NULL
           AND o.slug IN (:one, :two)
         GROUP BY o.slug
        """,
        one=slug,
        two=target,
    )
    assert len({total for _, total in totals}) == 1
    holders = registry.rows(
        """
        SELECT o.slug, MIN(c.holders), MAX(c.holders)
          FROM organisation_content AS c
          JOIN organisations AS o ON o.id = c.organisation_id
         WHERE o.slug IN (:one, :two)
         GROUP BY o.slug
        """,
        one=slug,
        two=target,
    )
    assert {slug_: (least, most) for slug_, least, most in holders} == {
        slug: (1, 1),
        target: (2, 2),
    }
