"""Texts as words, tokens, keys and flat arrays."""
