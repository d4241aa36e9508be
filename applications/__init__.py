"""What is built on the predictor: each room has an extra of its own."""
