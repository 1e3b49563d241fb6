"""Export for OpenSearch and other engines, and a client that indexes and searches precomputed vectors."""
