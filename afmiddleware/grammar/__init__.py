"""Shared small languages: amounts, capabilities, durations, rates."""
