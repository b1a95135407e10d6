"""Whether a model is right on every input: by trying all, or by bounds with a certificate."""
