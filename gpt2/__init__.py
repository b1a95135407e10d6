"""GPT-2's names, files and tokenizer."""
