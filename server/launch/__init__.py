"""The server's processes: launcher, banner, TLS, uvicorn's protocol."""
