"""The fence for FastAPI and Starlette."""

from afmiddleware_fastapi.middleware import FenceMiddleware, install

__all__ = ["FenceMiddleware", "install"]
