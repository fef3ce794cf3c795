"""Checkpoint → bundle. Needs torch; the server never imports it."""
