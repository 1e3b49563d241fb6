"""The encoder: a masked-LM head pooled over positions for documents, a weight table for queries."""
