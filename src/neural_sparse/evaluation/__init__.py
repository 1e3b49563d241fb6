"""Relevance, cost and certainty of retrieval systems."""

from neural_sparse.evaluation.cost import Cost, Latency, flops_metric, measure_cost
from neural_sparse.evaluation.evaluate import evaluate_external_run, evaluate_retriever
from neural_sparse.evaluation.evaluation import Evaluation
from neural_sparse.evaluation.measures import DEFAULT_MEASURES, RunScores, evaluate_run
from neural_sparse.evaluation.runs import read_run, write_run
from neural_sparse.evaluation.systems import evaluate_bm25, evaluate_encoder, evaluate_model

__all__ = [
    "DEFAULT_MEASURES",
    "Cost",
    "Evaluation",
    "Latency",
    "RunScores",
    "evaluate_bm25",
    "evaluate_encoder",
    "evaluate_external_run",
    "evaluate_model",
    "evaluate_retriever",
    "evaluate_run",
    "flops_metric",
    "measure_cost",
    "read_run",
    "write_run",
]
