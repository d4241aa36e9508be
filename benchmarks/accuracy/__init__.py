"""How good the maps are: parity with PyTorch, accuracy against speed, stability, delay."""
