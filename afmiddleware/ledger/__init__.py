"""The only holder of state: counters, reservations, receipts and API keys, changed together or not at all."""
