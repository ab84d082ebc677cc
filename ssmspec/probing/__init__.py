"""What a whole model does with its input: measured by differentiation, and recorded with hooks."""
