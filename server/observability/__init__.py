"""Metrics, access log, traces, and the activity of each project."""
