"""The server and the bulk run on a Ray cluster."""
