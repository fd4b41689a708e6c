"""What the management API works with."""

from dataclasses import dataclass

from entrepot.services.audit_log import AuditLog
from entrepot.services.collection_status import CollectionReport
from entrepot.services.contents import Contents
from entrepot.services.delete import Delete
from entrepot.services.deletions import Deletions
from entrepot.services.invitations import Invitations
from entrepot.services.members import Members
from entrepot.services.namespace_mirrors import NamespaceMirrors
from entrepot.services.organisations import Organisations
from entrepot.services.projects import Projects
from entrepot.services.repositories import Repositories
from entrepot.services.restore import Restore
from entrepot.services.retention import RetentionPolicies
from entrepot.services.retention_run import RetentionRun
from entrepot.services.server_settings import Server
from entrepot.services.session import Session
from entrepot.services.sync import Syncs
from entrepot.services.tokens import Tokens
from entrepot.services.upstream_repositories import UpstreamRepositories
from entrepot.services.upstreams import Upstreams
from entrepot.services.usage import Usage
from entrepot.services.users import Users


@dataclass(frozen=True, slots=True)
class Management:
    """The services behind the management API."""

    organisations: Organisations
    projects: Projects
    repositories: Repositories
    syncs: Syncs
    contents: Contents
    delete: Delete
    restore: Restore
    deletions: Deletions
    tokens: Tokens
    server: Server
    audit_log: AuditLog
    session: Session
    users: Users
    members: Members
    invitations: Invitations
    upstreams: Upstreams
    upstream_repositories: UpstreamRepositories
    mirrors: NamespaceMirrors
    usage: Usage
    collection: CollectionReport
    retention: RetentionPolicies
    retention_run: RetentionRun
