"""Visual encoders: MViTv2 is the paper's, the others are compared with it or lighter."""
