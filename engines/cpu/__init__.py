"""The processor: what it can do, and how many threads are worth starting."""
