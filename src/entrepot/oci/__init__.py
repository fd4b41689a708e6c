"""The distribution protocol, below /v2/."""
