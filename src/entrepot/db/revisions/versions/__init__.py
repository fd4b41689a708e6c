"""One file per revision: its number, then what it is about."""
