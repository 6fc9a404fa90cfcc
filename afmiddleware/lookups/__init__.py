"""The I/O behind identity: reading issuers' keys, off the request path."""
