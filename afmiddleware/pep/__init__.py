"""The enforcement points: generic middlewares that stand in front of the handlers and do what the spine decides."""
