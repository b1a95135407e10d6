"""Models of other people's tools: their names, their files, their tokenizers."""
