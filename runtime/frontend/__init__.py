"""From frames and sound to what a model takes, without torch: training and the runtime share it."""
