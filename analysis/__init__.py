"""What a model does: proved, measured, drawn."""
