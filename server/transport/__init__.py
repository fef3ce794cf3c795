"""Request and response bytes: body limits, JSON, admission, credentials, middleware."""
