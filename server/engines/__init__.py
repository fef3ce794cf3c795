"""Loaded networks: padded ids to probabilities, per device."""
