"""Fitted encoders: what of each goes into a bundle. None needs torch."""
