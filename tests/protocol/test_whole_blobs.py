"""A blob sent whole with its POST leaves no session: nobody was told its address."""

from tests.support.server import digest_of

_OPEN = """
    SELECT COUNT(*)
      FROM uploads AS u
      JOIN repositories AS r ON r.id = u.repository_id
     WHERE r.path = :path AND u.committed_at IS NULL
"""


def test_a_whole_blob_that_is_refused_leaves_no_open_upload(closed, owner, name):
    path, digest = f"/v2/{name}/blobs/uploads/", digest_of(b"expected")

    refused = owner.request("POST", path, params={"digest": digest}, content=b"something else")

    assert refused.status_code == 400
    assert closed.rows(_OPEN, path=name) == [(0,)]
    done = owner.request("POST", path, params={"digest": digest}, content=b"expected")
    assert done.status_code == 201
