"""Documents encoded outside a cluster that takes no models: the handler, and what ML Commons is told of it."""
