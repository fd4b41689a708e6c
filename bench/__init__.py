"""The side-by-side benchmark: Entrepot, distribution 2.8 and nginx in one run on one machine."""
