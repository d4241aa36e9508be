"""Live sources, and the page that shows a live picture."""
