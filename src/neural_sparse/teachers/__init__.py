"""Teachers for distillation: their scores, computed once and kept."""
