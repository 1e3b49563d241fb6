"""`neural-sparse` on a rank that fails in the middle of training: argument 1 says how. Started by torchrun."""

import os
import signal
import sys

from neural_sparse.cli.main import main
from neural_sparse.errors import InputError
from neural_sparse.training.batches import Collator

how = sys.argv.pop(1)
collate, batches = Collator.__call__, 0


def failing(self, examples):
    global batches
    batches += 1
    if os.environ["RANK"] == "1" and batches == 4:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise InputError("the disk of this rank is gone")
    return collate(self, examples)


Collator.__call__ = failing
if __name__ == "__main__":
    main()
