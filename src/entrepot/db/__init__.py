"""Metadata: the only SQL. One file per noun; `sqlite` and `postgres` are the two databases."""
