"""The fence inside Django: a middleware for WSGI and ASGI, system checks and management commands, no models."""
