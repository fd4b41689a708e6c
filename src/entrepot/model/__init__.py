"""The registry's nouns: names, digests, media types, manifests, errors; pure, no I/O."""
