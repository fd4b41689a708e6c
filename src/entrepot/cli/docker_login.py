"""`entrepot docker-login`: hand the stored credential to docker or podman."""

import click

from entrepot.cli.client import Json
from entrepot.cli.container_credentials import docker_file, podman_file, store
from entrepot.cli.messages import command, say
from entrepot.cli.session import DEFAULT_ORGANISATION, Session, open_session


@click.command("docker-login")
@click.argument("host", required=False)
@click.option("--podman", is_flag=True, help="For podman, buildah and skopeo instead.")
def docker_login(host: str | None, *, podman: bool) -> None:
    """Let docker push to and pull from HOST, the server's own if it is not given.

    Writes into docker's configuration (DOCKER_CONFIG), or hands the credential to the helper that
    is configured there (credHelpers, credsStore). With --podman: REGISTRY_AUTH_FILE.
    """
    session = open_session()
    who = session.client.get("/whoami")  # a credential that does not work is not passed on
    wanted = host or session.host
    where = store(podman_file() if podman else docker_file(), wanted, session.token)
    say(
        f"stored the credential for {wanted} in {where}",
        *_next(session, f"{wanted}/{_repository(session, who)}:v1", podman=podman),
    )


def _repository(session: Session, who: Json) -> str:
    """One that this caller may push to, as far as we know."""
    slugs = [found["slug"] for found in who["organisations"]]
    if not slugs or DEFAULT_ORGANISATION in slugs:
        return "alpine"
    chosen = session.login.organisation if session.login else ""
    return f"{chosen or slugs[0]}/alpine"


def _next(session: Session, image: str, *, podman: bool) -> tuple[str, ...]:
    if not podman:
        return (
            f"docker pull alpine && docker tag alpine {image} && docker push {image}",
            command("repository", "list"),
        )
    is_plain = session.server.startswith("http:")
    push = f"podman push {'--tls-verify=false ' if is_plain else ''}alpine {image}"
    return f"podman pull docker.io/library/alpine && {push}", command("repository", "list")
