"""The machine that figures are measured on: hardware, load, rates, energy."""
