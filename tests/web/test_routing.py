"""Routes that could not be judged are refused when the application is built."""

import pytest

from entrepot.model.access import Action
from entrepot.web.routing import Endpoint, Route, Router


@pytest.mark.parametrize("action", [Action.PULL, Action.PUSH, Action.DELETE])
def test_an_action_on_content_needs_a_repository_in_the_path(action):
    routes = (Route("/v2/_all", {"GET": Endpoint(action, None)}),)

    with pytest.raises(TypeError, match="names no repository"):
        Router(routes)


def test_a_route_without_an_action_is_refused():
    routes = (Route("/v2/{name}/x", {"GET": Endpoint("pull", None)}),)  # type: ignore[arg-type]  # what is tested

    with pytest.raises(TypeError, match="declares no action"):
        Router(routes)
