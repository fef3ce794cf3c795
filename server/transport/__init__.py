"""Bytes of a request and of an answer: body limits, JSON, admission, credentials, middleware."""
