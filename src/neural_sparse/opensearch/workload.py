"""The same load as a workload of opensearch-benchmark (PyPI), whose figures stand beside ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neural_sparse.io.files import replacing_folder, write_json, write_text
from neural_sparse.opensearch.searches import Searches

# Read by opensearch-benchmark, in its own Python; every client begins with another body.
_PLUGIN = '''"""Searches whose bodies are in JSON lines, taken in turn."""

import json
import pathlib


class Bodies:
    infinite = True

    def __init__(self, workload, params, **kwargs):
        folder = pathlib.Path(__file__).parent
        with (folder / params["bodies"]).open(encoding="utf-8") as file:
            self.bodies = [json.loads(line) for line in file]
        self.params_of_request = params["request-params"]
        self.index = params["index"]
        self.place = 0

    def partition(self, partition_index, total_partitions):
        one = Bodies.__new__(Bodies)
        one.__dict__.update(self.__dict__)
        one.place = partition_index * len(self.bodies) // total_partitions
        return one

    def params(self):
        body = self.bodies[self.place % len(self.bodies)]
        self.place += 1
        return {
            "index": self.index,
            "body": body,
            "request-params": self.params_of_request,
            "cache": False,
            "detailed-results": False,
        }


def register(registry):
    registry.register_param_source("bodies-in-turn", Bodies)
'''


def write_workload(
    folder: str | Path,
    index: str,
    searches: Mapping[str, Searches],
    rates: Sequence[float],
    clients: Sequence[int],
    duration: float,
    warmup: float,
    poisson: bool,
) -> list[str]:
    """Write a workload folder; an older one is replaced.

    Args:
        searches: by the name of the system, without spaces.
        duration, warmup: seconds of each task.

    Returns:
        Names of the tasks, in their order.
    """
    tasks: list[dict[str, Any]] = []
    operations: list[dict[str, Any]] = []
    with replacing_folder(folder) as at:
        for name, one in searches.items():
            lines = [json.dumps(body, ensure_ascii=False) for body in one.bodies]
            write_text(at / f"{name}.jsonl", "\n".join(lines) + "\n")
            params = {} if one.pipeline is None else {"search_pipeline": one.pipeline}
            operations.append(
                {
                    "name": name,
                    "operation-type": "search",
                    "param-source": "bodies-in-turn",
                    "index": index,
                    "bodies": f"{name}.jsonl",
                    "request-params": params,
                }
            )
        for rate in rates:
            for count in clients:
                for name in searches:
                    task: dict[str, Any] = {
                        "name": task_name(name, rate, count),
                        "operation": name,
                        "warmup-time-period": _seconds(warmup),
                        "time-period": _seconds(duration),
                        "target-throughput": rate,
                        "clients": count,
                    }
                    if poisson:
                        task["schedule"] = "poisson"
                    tasks.append(task)
        workload = {
            "version": 2,
            "description": f"Searches of {index}: {', '.join(searches)}",
            "operations": operations,
            "test_procedures": [{"name": "load", "default": True, "schedule": tasks}],
        }
        write_json(at / "workload.json", workload)
        write_text(at / "workload.py", _PLUGIN)
    return [task["name"] for task in tasks]


def task_name(system: str, rate: float, clients: int) -> str:
    """
    >>> task_name("sparse", 50.0, 8)
    'sparse-50-per-second-8-clients'
    """
    return f"{system}-{rate:g}-per-second-{clients}-clients"


def _seconds(value: float) -> int:
    return max(1, round(value))
