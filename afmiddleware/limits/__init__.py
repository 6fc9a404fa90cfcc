"""Window arithmetic: how much of a limit is used, what a request is charged, what a release gives back. Pure."""
