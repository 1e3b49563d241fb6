"""Work for the tests of Ray; a module of its own, which the workers import."""

import os
import signal
from pathlib import Path

import numpy as np

from neural_sparse.errors import InputError


def start(base, kind, folder, worker):
    if kind == "broken":
        raise InputError("no such model")

    def work(number, advance):
        if kind == "large":
            return np.full(3 << 20, number, np.float64)  # 24 MiB
        if kind == "deadly" and number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        flag = Path(folder) / str(number)
        if kind == "dies" and number % 4 == 0 and not flag.exists():
            flag.touch()
            advance(5)
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "fails" and number == 3:
            raise InputError("line 7 is malformed")
        if kind == "bug" and number == 3:
            raise KeyError("a bug")
        advance(number)
        return base + number

    return work
