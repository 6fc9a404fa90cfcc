"""Receipts: canonical bytes, the chain through them, their keys, and checking a log of them. Pure."""
