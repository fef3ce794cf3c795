"""Word and character n-grams with TF-IDF weights, straight into the head."""
