"""Other registries: the only outbound HTTP."""
