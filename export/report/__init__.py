"""How an engine computes a model, as a table and as a picture."""
