"""An NVIDIA GPU: its driver, its memory and streams, and arrays in its memory."""
