"""What measurements share: runs, processes of their own, stopwatches, intervals, laws."""
