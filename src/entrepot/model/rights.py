"""The table of rights: what each role and kind of credential may do; `services.access` reads it.

The table for people is docs/reference/access.md; a test compares the two.
"""

from collections.abc import Mapping

from entrepot.model.access import Action, Role

_READ = frozenset(
    {Action.PULL, Action.CATALOG, Action.BROWSE, Action.SEE_ORGANISATION, Action.SEE_USAGE}
)
_WRITE = _READ | {Action.PUSH, Action.DELETE_TAG, Action.CREATE_REPOSITORY}
_MEMBER = _WRITE | {Action.CREATE_PROJECT, Action.CREATE_PULL_TOKEN}
_ADMIN = _MEMBER | {
    Action.DELETE,
    Action.MANAGE_REPOSITORY,
    Action.MANAGE_PROJECT,
    Action.MANAGE_TOKENS,
    Action.MANAGE_UPSTREAMS,
    Action.MANAGE_MEMBERS,
    Action.MANAGE_ORGANISATION,
    Action.AUDIT,
}
_OWNER = _ADMIN | {Action.MANAGE_OWNERS, Action.OWN_ORGANISATION}

ROLE_ACTIONS: Mapping[Role, frozenset[Action]] = {
    Role.READER: _READ,
    Role.MEMBER: _MEMBER,
    Role.ADMIN: _ADMIN,
    Role.OWNER: _OWNER,
}
# Roles from the least to the most.
RANK: Mapping[Role, int] = {role: rank for rank, role in enumerate(ROLE_ACTIONS)}

ORGANISATION_ACTIONS = _WRITE | {Action.DELETE}
# An organisation token that was made to manage.
MANAGING_ACTIONS = _ADMIN
PROJECT_ACTIONS = frozenset({Action.PULL, Action.PUSH, Action.DELETE_TAG, Action.CREATE_REPOSITORY})
PULL_ACTIONS = frozenset({Action.PULL})
PUBLIC_ACTIONS = frozenset({Action.PULL})
# What a server administrator may do to any organisation; content is not in it.
ADMINISTRATOR_ACTIONS = frozenset(
    {
        Action.ADMINISTER,
        Action.SEE_ORGANISATION,
        Action.SEE_USAGE,
        Action.MANAGE_ORGANISATION,
        Action.OWN_ORGANISATION,
    }
)
# What needs no repository path to judge, and so stays with a token that is limited to patterns.
WITHIN_PATTERNS = frozenset({Action.BROWSE, Action.SEE_ORGANISATION, Action.CATALOG})

# What makes others able: a token that lacks a word does not give it away to a new member either.
GIVES_RIGHTS = frozenset({Action.MANAGE_MEMBERS, Action.MANAGE_OWNERS})

# The words that limit a token, and what each lets through.
SCOPE_WORDS = ("pull", "push", "delete", "manage")
_WORD_OF: Mapping[Action, str] = {
    Action.CATALOG: "pull",
    Action.PULL: "pull",
    Action.BROWSE: "pull",
    Action.SEE_ORGANISATION: "pull",
    Action.SEE_USAGE: "pull",
    Action.PUSH: "push",
    Action.CREATE_REPOSITORY: "push",
    Action.DELETE_TAG: "delete",
    Action.DELETE: "delete",
}


def scope_word(action: Action) -> str:
    """The word of a token's scope that covers `action`; bearer scopes use the same words."""
    return _WORD_OF.get(action, "manage")
