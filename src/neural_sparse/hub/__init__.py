"""A model folder for the Hugging Face hub."""
