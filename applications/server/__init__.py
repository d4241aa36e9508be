"""A server that predicts videos which programs send by HTTP."""
