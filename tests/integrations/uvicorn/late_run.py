"""Uvicorn started by a program, whose words say nothing of its workers."""

from __future__ import annotations

import sys

import uvicorn

if __name__ == "__main__":
    uvicorn.run(sys.argv[-1], fd=int(sys.argv[1]), workers=2, log_level="warning")
