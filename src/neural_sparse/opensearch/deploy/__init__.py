"""Putting an export to work on a cluster, and taking it off again."""

from neural_sparse.opensearch.deploy.documents import Documents
from neural_sparse.opensearch.deploy.options import DeployOptions
from neural_sparse.opensearch.deploy.run import Deployed, deploy, remove
from neural_sparse.opensearch.deploy.server import Patience

__all__ = ["DeployOptions", "Deployed", "Documents", "Patience", "deploy", "remove"]
