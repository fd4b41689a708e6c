"""Trying an upstream registry's address and credential, before they are kept and later again."""

from collections.abc import Collection
from dataclasses import dataclass

from entrepot.model.errors import (
    Denied,
    FieldInvalid,
    UpstreamBusy,
    UpstreamDown,
    UpstreamError,
)
from entrepot.model.upstreams import Auth, EcrAuth, Handshake
from entrepot.upstream.outbound import Outbound
from entrepot.upstream.probe import probe


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried, and for whom: the slug of an organisation."""

    organisation: str
    name: str
    preset: str
    origin: str
    auth: Auth


@dataclass(frozen=True, slots=True)
class Tried:
    """How it went: what the upstream said, or why that cannot be used."""

    handshake: Handshake | None
    error: str | None = None


class Trials:
    """Tries. `ambient`: organisations that may use this server's own identity."""

    def __init__(self, outbound: Outbound, ambient: Collection[str] = ()) -> None:
        self._outbound = outbound
        self._ambient = ambient

    async def before_saving(self, trial: Trial, *, save_unchecked: bool) -> Tried:
        """Whoever reads a refusal sees that nothing was saved. Raises FieldInvalid, Denied.

        Raises UpstreamDown and UpstreamBusy for what cannot be known now, unless that may be saved.
        """
        try:
            return Tried(await self._try(trial))
        except FieldInvalid as error:
            raise FieldInvalid(f"{error.message}; nothing was saved", **error.values) from error
        except (UpstreamDown, UpstreamBusy) as error:
            if save_unchecked:
                return Tried(None, error.message)
            message = f"{error.message}; nothing was saved (to save it unchecked: --save-unchecked)"
            raise type(error)(message, **error.values) from error

    async def again(self, trial: Trial, pinned: Handshake | None) -> Tried:
        """How it goes now; another token service than the pinned one is not accepted."""
        try:
            found = await self._try(trial)
        except (FieldInvalid, Denied, UpstreamError) as error:
            return Tried(None, error.message)
        if pinned in {None, found}:
            return Tried(found)
        message = (
            f"{trial.name} sends its clients to {_realm(found)} for tokens now, and did to"
            f" {_realm(pinned)} before; if whoever runs it says that this is right:"
            f" entrepot upstream check {trial.name} --accept-realm"
        )
        return Tried(found, message)

    async def _try(self, trial: Trial) -> Handshake:
        self._require_lent(trial)
        try:
            return await probe(self._outbound, trial.origin, trial.auth, trial.preset, trial.name)
        except (UpstreamDown, UpstreamBusy):
            raise
        except UpstreamError as error:
            raise FieldInvalid(error.message, field="url") from error

    def _require_lent(self, trial: Trial) -> None:
        """Raises Denied for this server's own identity where its operator did not lend it.

        Also where it is to assume a role: what that may do is up to whoever wrote the role.
        """
        if not isinstance(trial.auth, EcrAuth) or trial.auth.access_key_id:
            return
        if trial.organisation in self._ambient or "*" in self._ambient:
            return
        raise Denied(
            f"{trial.organisation} may not use the AWS identity of this server; give an access key"
            " (--access-key-id ID --secret-stdin), or have the server's operator list the"
            f" organisation: ENTREPOT_OUTBOUND__AMBIENT={trial.organisation}"
        )


def _realm(handshake: Handshake | None) -> str:
    return handshake.realm if handshake and handshake.realm else "none"
