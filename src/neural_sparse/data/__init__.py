"""Collections to search, pairs to train on."""
