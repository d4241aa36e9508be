"""A video in another shape: the crop follows where people look."""
