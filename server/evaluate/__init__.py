"""How good a bundle is on labelled texts."""
