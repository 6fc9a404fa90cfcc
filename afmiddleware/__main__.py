"""`python -m afmiddleware` is the command line."""

from __future__ import annotations

from afmiddleware.cli import main

main()
