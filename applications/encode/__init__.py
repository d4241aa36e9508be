"""A video's bits where people look: regions of interest for encoders."""
