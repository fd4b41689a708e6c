"""Proofs of identity: tokens that are looked up, and tokens that are signed."""
