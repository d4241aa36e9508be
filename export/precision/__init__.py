"""Graphs in less than float32: FP16 and BF16, INT8 and its calibration."""
