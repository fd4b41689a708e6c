"""What the registry does; no HTTP, no driver."""
