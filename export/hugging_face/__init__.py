"""Directories as Hugging Face saves them → networks of a bundle. Needs torch and transformers."""
