"""From frames and sound to maps: files (predictor.py) and live streams (stream.py)."""
