"""Entrepot: an open, self-hosted, multi-tenant OCI registry."""
