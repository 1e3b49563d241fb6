"""Who does the work: processes of this machine, ranks of a training run, a Ray cluster."""
