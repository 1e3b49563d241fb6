"""Many runs of one recipe: the grid, what they share, how they are judged, which one to take."""
