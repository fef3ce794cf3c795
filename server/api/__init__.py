"""URL to handler: the ML backend protocol, the Open Inference Protocol, probes, admin, OpenAPI."""
