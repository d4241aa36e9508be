"""Video and sound in and out, through FFmpeg."""
