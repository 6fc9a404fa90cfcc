"""Telemetry: what the fence did, as metrics, traces and logs."""
