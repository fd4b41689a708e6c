"""Every route of the protocol, with the action that each method needs."""

from entrepot.model.access import Action
from entrepot.oci import blobs, listing, manifests, token, uploads
from entrepot.oci.call import Handler
from entrepot.web.routing import Endpoint, Route

ROUTES: tuple[Route[Handler], ...] = (
    Route(
        "/v2/{name}/manifests/{reference}",
        {
            "GET": Endpoint(Action.PULL, manifests.get),
            "HEAD": Endpoint(Action.PULL, manifests.get),
            "PUT": Endpoint(Action.PUSH, manifests.put, is_finishing=True),
            "DELETE": Endpoint(Action.DELETE_TAG, manifests.delete),
        },
    ),
    Route("/v2/{name}/blobs/uploads[/]", {"POST": Endpoint(Action.PUSH, uploads.post)}),
    Route(
        "/v2/{name}/blobs/uploads/{upload}",
        {
            # A status reveals nothing but to the session's owner; clients ask with a pull token.
            "GET": Endpoint(Action.PULL, uploads.get, is_finishing=True),
            "PATCH": Endpoint(Action.PUSH, uploads.patch, is_finishing=True),
            "PUT": Endpoint(Action.PUSH, uploads.put, is_finishing=True),
            "DELETE": Endpoint(Action.PUSH, uploads.delete, is_finishing=True),
        },
    ),
    Route(
        "/v2/{name}/blobs/{digest}",
        {
            "GET": Endpoint(Action.PULL, blobs.get),
            "HEAD": Endpoint(Action.PULL, blobs.get),
            "DELETE": Endpoint(Action.DELETE, blobs.delete),
        },
    ),
    Route("/v2/{name}/tags/list", {"GET": Endpoint(Action.PULL, listing.tags)}),
    Route("/v2/{name}/referrers/{digest}", {"GET": Endpoint(Action.PULL, listing.referrers)}),
    Route("/v2/_catalog", {"GET": Endpoint(Action.CATALOG, listing.catalog)}),
    Route(
        "/v2/token",
        {
            "GET": Endpoint(Action.PUBLIC, token.get),
            "POST": Endpoint(Action.PUBLIC, token.post),
        },
    ),
    Route(
        "/v2[/]",
        {
            "GET": Endpoint(Action.LOGIN, listing.ping),
            "HEAD": Endpoint(Action.LOGIN, listing.ping),
        },
    ),
)
