"""Weights to ONNX to engine: `dtfsal build`, `python export/build_engine.py`, or `dtfsal.export.builder`."""
