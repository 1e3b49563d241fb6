"""What the stages will take on a user's own corpus and hardware, before they start."""
