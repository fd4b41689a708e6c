"""Health, metrics and the page at /."""
