"""Drift: pinned schemas of tools, and what to do when a tool is no longer what was pinned."""
