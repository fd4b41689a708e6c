"""Settings: one frozen tree, from the environment and a file."""

from entrepot.config.sources import environment_name, fields, load, to_environment
from entrepot.config.tree import Settings, is_loopback

__all__ = [
    "Settings",
    "environment_name",
    "fields",
    "is_loopback",
    "load",
    "to_environment",
]
