"""The main job from end to end on text that is already installed."""
