"""Files, places, work in parts and what is printed: nothing half written, nothing taken for markup."""

from typing import TYPE_CHECKING

from neural_sparse.lazy import lazy

if TYPE_CHECKING:
    from neural_sparse.io.files import (
        check_output,
        check_output_folder,
        read_json,
        replacing,
        replacing_folder,
        write_json,
        write_text,
    )
    from neural_sparse.io.lines import json_lines, text_lines
    from neural_sparse.io.parts import Parts, alone
    from neural_sparse.io.resources import require_space
    from neural_sparse.io.terminal import console
    from neural_sparse.io.urls import Location, Url, location

__all__ = [
    "Location",
    "Parts",
    "Url",
    "alone",
    "check_output",
    "check_output_folder",
    "console",
    "json_lines",
    "location",
    "read_json",
    "replacing",
    "replacing_folder",
    "require_space",
    "text_lines",
    "write_json",
    "write_text",
]
__getattr__, __dir__ = lazy(__name__)
