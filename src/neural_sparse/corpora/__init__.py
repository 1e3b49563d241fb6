"""Collections in their layouts, wherever they are: reading, checking, comparing their texts."""
