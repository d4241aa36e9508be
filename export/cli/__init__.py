"""`dtfsal build` and `dtfsal refit`."""
