"""Moved to `neural_sparse.report.comparison`; this path goes with the next release."""

import importlib
import sys
import warnings

warnings.warn(f"{__name__} has moved to neural_sparse.report.comparison", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = importlib.import_module("neural_sparse.report.comparison")
