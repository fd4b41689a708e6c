"""A project has one repository, by whichever address it is reached."""


def test_a_projects_repository_is_the_projects_by_its_organisations_address_too(closed, owner):
    project = closed.new_project()
    owner.push_image(f"main/{project}", "v1")
    client = closed.client(closed.new_token("project", project=project))

    found = client.request("GET", f"/v2/{project}/manifests/v1")
    digest = client.push_image(project, "v2")
    same = client.request("GET", f"/v2/main/{project}/manifests/v2")

    client.close()
    assert found.status_code == 200
    assert same.headers["docker-content-digest"] == digest
