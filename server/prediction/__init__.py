"""One request, from tasks or texts to predictions."""
