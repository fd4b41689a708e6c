"""The servers under test, each started on loopback with a folder of its own."""

from bench.servers.distribution import Distribution
from bench.servers.entrepot import Entrepot
from bench.servers.nginx import Nginx
from bench.servers.upstream import Upstream

__all__ = ["Distribution", "Entrepot", "Nginx", "Upstream"]
