"""What models are trained and scored on: photographs with gaze, and clips made of them."""
