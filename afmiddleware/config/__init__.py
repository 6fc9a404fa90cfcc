"""The policy file: its text to a checked `Config`, or every error in it with its place."""
