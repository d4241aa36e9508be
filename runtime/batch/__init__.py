"""Many videos: folders and lists, worker processes, and runs that go on where they were stopped."""
