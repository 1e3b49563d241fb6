"""The trainer: batches of ids, teachers' targets, sentence-transformers' loop underneath."""
