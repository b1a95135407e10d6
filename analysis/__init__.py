"""What a model does: measured, told, drawn."""
