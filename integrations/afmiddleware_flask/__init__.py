"""The fence as a Flask extension: decided on the URL rule that Flask matched, before the view runs."""

from afmiddleware_flask.extension import AgentFence

__all__ = ["AgentFence"]
