"""Results as pictures and comparisons, and all of them measured anew."""
