"""Commands of the training room: prepare, synth, train, evaluate."""
