"""The commands `dtfsal report` and `dtfsal compare`."""
