"""Webhooks: signed delivery of the events that the ledger's outbox holds."""
