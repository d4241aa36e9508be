"""An engine on disk: its folder, its manifest, and what the manifest says of inputs."""
