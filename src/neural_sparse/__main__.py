"""`python -m neural_sparse`, which launchers like torchrun start."""

from neural_sparse.cli.main import main

main()
