"""Reports: what a clip's maps say over time, as tables and as one page that opens from disk."""
