"""`entrepot admin doctor`: what of this installation is well, what is not, and what to type."""
