"""Credentials to actors. Pure: what needs I/O is asked for, and answered by the caller."""
