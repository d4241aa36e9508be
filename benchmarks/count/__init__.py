"""What a model costs by count: FLOPs, parameters, memory, instructions, budgets."""
