"""Open access is for this machine: a proxy speaks for others, whatever it carries."""

import pytest


@pytest.mark.parametrize("header", ["forwarded", "x-forwarded-for", "via"])
def test_a_bearer_token_of_nobody_opens_nothing_through_a_proxy(readable, name, header):
    client = readable.client(readable.server.token)
    client.push_image(name, "v1")
    nobody = readable.bearer(None, f"repository:{name}:pull")
    path = f"/v2/{name}/manifests/v1"
    direct = client.http.get(path, headers=nobody)

    answers = [client.http.get(path, headers={**nobody, header: "x"}) for _ in range(2)]

    client.close()
    assert direct.status_code == 200
    assert [answer.status_code for answer in answers] == [404, 404]
