"""Latency, FLOPs and parity: measured, with the results kept beside the code."""
