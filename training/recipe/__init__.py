"""How the shipped weights of `lite` are made: the recipe and its stages."""
