"""One run: what it starts from, its steps, what is kept and shown of it."""
