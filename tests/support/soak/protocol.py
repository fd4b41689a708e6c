"""How clients push and pull: they skip what is there, mount what is elsewhere, send the rest.

What a client was told to be there, it may rely on for a while; `Hold` says until when.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from tests.support.server import OCI_INDEX, OCI_MANIFEST, basic, digest_of
from tests.support.soak.content import Image, Part
from tests.support.soak.promises import Promise
from tests.support.soak.wire import Gone, Wire, Wrong

_MAX_AGE = "Entrepot-Max-Age"


class Late(Exception):
    """The client took longer than what it was told counts: it begins anew."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Until when what a client was told about a digest counts, by time.monotonic()."""

    digest: str
    until: float


class Protocol:
    """What one client does with one registry; `grace` is how many seconds pushed content waits."""

    def __init__(
        self, wire: Wire, random: Random, *, grace: float, names: list[str], token: str
    ) -> None:
        self._wire = wire
        self._random = random
        self._grace = grace
        self._names = names
        self._api = basic(token)
        self._ids: dict[str, str] = {}  # of repositories, by name
        self.late = 0

    async def push(
        self, name: str, reference: str, image: Image, *, max_age: int | None = None
    ) -> None:
        """Push an image, or an index with its children, whole. Raises Wrong."""
        while True:
            try:
                await self._push(name, reference, image, max_age)
                return
            except Late:
                self.late += 1

    async def _push(self, name: str, reference: str, image: Image, max_age: int | None) -> None:
        holds = [await self._bring(name, part) for part in image.parts]
        holds += [await self._bring_manifest(name, child) for child in image.children]
        await self.put(name, reference, image, holds, max_age=max_age)

    async def put(
        self,
        name: str,
        reference: str,
        image: Image,
        holds: Iterable[Hold] = (),
        *,
        max_age: int | None = None,
        source: Promise | None = None,
    ) -> None:
        """Put a manifest whose content is held, or promised by `source`. Raises Late, Wrong."""
        headers = {"content-type": image.media_type}
        if max_age is not None:
            headers[_MAX_AGE] = f"{max_age}s"
        path = f"/v2/{name}/manifests/{reference}"
        answer = await self._wire.ask(
            "manifest.put", "PUT", path, expect={201, 400}, data=image.body, headers=headers
        )
        if answer.status == 201:
            return
        until = {hold.digest: hold.until for hold in holds}
        now = time.monotonic()
        missing = answer.missing
        if missing and source is not None and not source.holds:
            raise Late
        if missing and all(digest in until and now > until[digest] for digest in missing):
            raise Late
        left = [round(until[digest] - now, 3) for digest in missing if digest in until]
        self._wire.tally.fail("unknown inside the grace", f"{path}: {answer.body!r}; {left} s left")
        raise Wrong

    async def _bring_manifest(self, name: str, image: Image) -> Hold:
        """Push a child by its digest unless it is there, as containerd does."""
        sent = time.monotonic()
        path = f"/v2/{name}/manifests/{image.digest}"
        answer = await self._wire.ask("manifest.head", "HEAD", path, expect={200, 404})
        if answer.status == 200:
            return Hold(image.digest, sent + self._grace / 2)
        sent = time.monotonic()
        await self._push(name, image.digest, image, None)
        return Hold(image.digest, sent + self._grace)

    async def _bring(self, name: str, part: Part) -> Hold:
        """Have the registry hold a blob: it is there, or elsewhere, or it is sent."""
        way = self._random.random()
        sent = time.monotonic()
        if way < 0.6:
            path = f"/v2/{name}/blobs/{part.digest}"
            answer = await self._wire.ask("blob.head", "HEAD", path, expect={200, 404})
            if answer.status == 200:
                # A registry need not write for each question; half of the grace it promises.
                return Hold(part.digest, sent + self._grace / 2)
        if way < 0.75:
            return await self._mount(name, part)
        return await self._upload(name, part)

    async def _mount(self, name: str, part: Part) -> Hold:
        source = self._random.choice(self._names)
        sent = time.monotonic()
        path = f"/v2/{name}/blobs/uploads/?mount={part.digest}&from={source}"
        answer = await self._wire.ask("blob.mount", "POST", path, expect={201, 202})
        if answer.status == 202:
            await self._finish(answer.headers["location"], part)
        return Hold(part.digest, sent + self._grace)

    async def _upload(self, name: str, part: Part) -> Hold:
        sent = time.monotonic()
        path = f"/v2/{name}/blobs/uploads/"
        if self._random.random() < 0.3:
            path += f"?digest={part.digest}"
            await self._wire.ask("blob.post", "POST", path, expect={201}, data=part.content)
        else:
            begun = await self._wire.ask("upload.post", "POST", path, expect={202})
            await self._finish(begun.headers["location"], part)
        return Hold(part.digest, sent + self._grace)

    async def _finish(self, location: str, part: Part) -> None:
        content = part.content
        if self._random.random() < 0.2:
            some, content = content[: len(content) // 2], content[len(content) // 2 :]
            more = await self._wire.ask("upload.patch", "PATCH", location, expect={202}, data=some)
            location = more.headers["location"]
        joint = "&" if "?" in location else "?"
        path = f"{location}{joint}digest={part.digest}"
        await self._wire.ask("upload.put", "PUT", path, expect={201}, data=content)

    async def abandon(self, name: str, part: Part) -> None:
        """Upload what nothing will need, or only begin to."""
        if self._random.random() < 0.7:
            await self._upload(name, part)
            return
        path = f"/v2/{name}/blobs/uploads/"
        begun = await self._wire.ask("upload.post", "POST", path, expect={202})
        await self._wire.ask(
            "upload.delete", "DELETE", begun.headers["location"], expect={204, 202}
        )

    async def remove(self, name: str, reference: str) -> None:
        """Delete a tag, or a manifest by its digest. Raises Gone, Wrong."""
        kind = "manifest.delete" if ":" in reference else "tag.delete"
        path = f"/v2/{name}/manifests/{reference}"
        await self._wire.ask(kind, "DELETE", path, expect={202})

    async def is_needed(self, name: str, digest: str) -> bool:
        """Try to delete a manifest that an index lists; whether that is refused. Raises Wrong."""
        path = f"/v2/{name}/manifests/{digest}"
        expect = {202, 404, 405}
        answer = await self._wire.ask("manifest.delete", "DELETE", path, expect=expect)
        return answer.status == 405

    async def restore(self, name: str, tag: str) -> bool:
        """Undo the deletion of a tag; False where that is too late. Raises Wrong."""
        path = f"/api/v1/repositories/{await self._id(name)}/tags/{tag}/restore"
        expect = {200, 404}
        answer = await self._wire.ask(
            "tag.restore", "POST", path, expect=expect, json={}, headers=self._api
        )
        return answer.status == 200

    async def _id(self, name: str) -> str:
        if name not in self._ids:
            path = f"/api/v1/organisations/main/repositories?path={name}"
            answer = await self._wire.ask("api", "GET", path, expect={200}, headers=self._api)
            self._ids[name] = json.loads(answer.body)["items"][0]["id"]
        return self._ids[name]

    async def pull(self, name: str, reference: str, image: Image) -> None:
        """Pull all of it, and hash it again. Raises Gone, Wrong."""
        path = f"/v2/{name}/manifests/{reference}"
        accept = {"accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
        answer = await self._wire.ask("manifest.get", "GET", path, expect={200}, headers=accept)
        if answer.body != image.body:
            self._wire.tally.fail("wrong manifest", path)
            raise Wrong
        for child in image.children:
            await self.pull(name, child.digest, child)
        for part in image.parts:
            path = f"/v2/{name}/blobs/{part.digest}"
            answer = await self._wire.ask("blob.get", "GET", path, expect={200})
            if digest_of(answer.body) != part.digest:
                self._wire.tally.fail("wrong bytes", path)
                raise Wrong

    async def verify(self, promise: Promise) -> None:
        """Pull what was promised; missing is only what is not promised any more. Raises Wrong."""
        name = promise.repository
        below = list(promise.below)
        tags = dict(promise.tags)
        try:
            await self.pull(name, promise.reference, promise.image)
            for image in below:
                await self.pull(name, image.digest, image)
            for tag, image in tags.items():
                await self.pull(name, tag, image)
        except Gone as error:
            if promise.holds:
                self._wire.tally.fail("lost", f"{promise.reference} of {name}: {error}")
                raise Wrong from error

    async def pull_gone(self, name: str, image: Image) -> bool:
        """Pull what nobody promises: whatever comes is right, or it is not there; whether it is."""
        try:
            await self.pull(name, image.digest, image)
        except Gone:
            return False
        return True

    async def tags(self, name: str) -> list[str]:
        """All tags of a repository. Raises Gone, Wrong."""
        path = f"/v2/{name}/tags/list"
        answer = await self._wire.ask("tags.get", "GET", path, expect={200})
        return list(json.loads(answer.body)["tags"])

    async def referrers(self, name: str, digest: str) -> list[str]:
        """What refers to a manifest. Raises Gone, Wrong."""
        path = f"/v2/{name}/referrers/{digest}"
        answer = await self._wire.ask("referrers.get", "GET", path, expect={200})
        return [each["digest"] for each in json.loads(answer.body)["manifests"]]
