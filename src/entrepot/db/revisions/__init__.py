"""The schema as numbered revisions, forward only."""
