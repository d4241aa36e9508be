"""Areas of interest: where they lie at a time, their files, and their share of a map's attention."""
