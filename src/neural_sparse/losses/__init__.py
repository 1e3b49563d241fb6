"""Pure functions of tensors, and the IDF-aware loss that composes them."""
