"""Clients that push, pull, move and delete at once, and know what a registry has promised them."""
