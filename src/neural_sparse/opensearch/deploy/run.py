"""From an export to an index that answers as the model does, and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_sparse.errors import InputError
from neural_sparse.opensearch.bulk import BulkReport
from neural_sparse.opensearch.deploy.documents import Documents, load_documents
from neural_sparse.opensearch.deploy.exported import Exported
from neural_sparse.opensearch.deploy.models import Models, Running
from neural_sparse.opensearch.deploy.options import DeployOptions
from neural_sparse.opensearch.deploy.plan import ENCODED_BY, MADE_FIELDS, Plan
from neural_sparse.opensearch.deploy.proof import Proof
from neural_sparse.opensearch.deploy.rankings import check_rankings
from neural_sparse.opensearch.deploy.remote_models import RemoteModels
from neural_sparse.opensearch.deploy.server import Patience, Server
from neural_sparse.opensearch.parity import Check
from neural_sparse.opensearch.refusals import cured, reason
from neural_sparse.opensearch.shards import count_documents

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployed:
    """What stands on the cluster now.

    Attributes:
        models: {"encoder" or "queries": the model}.
        index_was_there: from an earlier run. documents: in it.
        alias_of: the index that the alias names now.
        checks: the proof.
        loaded: of the documents that were given.
    """

    plan: Plan
    version: str
    models: dict[str, Running]
    index_was_there: bool
    documents: int
    alias_of: str | None
    checks: list[Check]
    remarks: list[str] = field(default_factory=list)
    loaded: BulkReport | None = None


def deploy(
    client: OpenSearch,
    export: str | Path,
    options: DeployOptions | None = None,
    patience: Patience | None = None,
    where: str = "the cluster",
    *,
    documents: Documents | None = None,
) -> Deployed:
    """Bring an export to a cluster; what is there already is used, what was half done is finished.

    Models are told apart by their content, indexes by what they say of themselves. The alias goes to the new index
    at the end, after the proof, so that searches by it never meet an index that is not ready.

    Args:
        client: see `connect`.
        export: folder written by `neural-sparse export`.
        where: the cluster's address, for messages.
        documents: the index is filled with them, and its rankings are proven; those that it holds already are not sent
            again.

    Raises:
        InputError: a folder that is no export; documents that are refused; a server that cannot do what is asked, or
            may not; an index of the same name made for something else; a cluster that answers otherwise than the
            export.
    """
    plan = Plan(Exported.open(export), options or DeployOptions())
    if documents is not None:
        documents.check(plan)
    server = Server(client, where, patience or Patience())
    version = server.version()
    plan.check(version)
    needed = _needed(plan)
    if needed or plan.options.remote is not None:
        server.check_plugins()
    there = _check_index(server, plan)
    before = _alias_indexes(server, plan)
    running: dict[str, Running] = {}
    models = Models(server)
    waiting = [package for package in needed.values() if not models.answers(package)]
    closed = server.closed_settings() if waiting else {}
    with server.opened(closed, plan.options.allow_settings):
        for role, package in needed.items():
            running[role] = models.ensure(package)
            logger.info("%s: model %s, %s", role, running[role].model_id, running[role].how)
    if plan.options.remote is not None:
        running["encoder"] = RemoteModels(server).ensure(plan.exported.encoder, plan.options.remote)
    ids = {role: model.model_id for role, model in running.items()}
    _put_pipelines(server, plan, ids)
    if not there:
        _create_index(server, plan)
    server.ask(client.indices.put_settings, index=plan.index, body=plan.index_settings())
    checks = Proof(server, plan, ids).run()
    if plan.options.reindex:
        _reindex(server, plan, before)
    loaded = None
    if documents is not None:
        loaded = load_documents(server, plan, documents, lambda: models.deploy(ids["encoder"]))
        checks += check_rankings(server, plan, documents)
    remarks = list(_remarks(plan, version))
    count = _count(server, plan.index)
    alias_of = _switch(server, plan, before=before, documents=count, remarks=remarks)
    return Deployed(
        plan,
        version,
        models=running,
        index_was_there=there,
        documents=count,
        alias_of=alias_of,
        checks=checks,
        remarks=remarks,
        loaded=loaded,
    )


def remove(
    client: OpenSearch,
    export: str | Path,
    options: DeployOptions | None = None,
    patience: Patience | None = None,
    where: str = "the cluster",
    with_documents: bool = False,
) -> list[str]:
    """Take an export off a cluster: alias, index, pipelines, models; returns what was removed.

    Models that another pipeline names stay.

    Raises:
        InputError: the index holds documents, unless `with_documents`; a server that refuses.
    """
    plan = Plan(Exported.open(export), options or DeployOptions())
    server = Server(client, where, patience or Patience())
    removed: list[str] = []
    if _check_index(server, plan, own=True):
        documents = _count(server, plan.index)
        if documents and not with_documents:
            raise InputError(
                f"{where}: index {plan.index!r} holds {documents:,} documents: say --with-documents to delete them too"
            )
        server.ask(client.indices.delete, index=plan.index, params={"ignore_unavailable": "true"})
        removed.append(f"index {plan.index} ({documents:,} documents)")
    for kind, api in (("ingest", client.ingest), ("search", client.search_pipeline)):
        names = [f"{plan.index}-{kind}"] + ([f"{plan.index}-two-phase"] if kind == "search" else [])
        for name in names:
            if _delete_pipeline(server, api, name):
                removed.append(f"{kind} pipeline {name}")
    used = json.dumps(_pipelines(server))
    models = Models(server)
    for package in dict.fromkeys((plan.exported.encoder, plan.exported.queries)):
        for model_id in models.find(package):
            if model_id in used:
                logger.info("model %s of %s stays: another pipeline uses it", model_id, package.name)
                continue
            models.delete(model_id)
            removed.append(f"model {package.name} ({model_id})")
    for model_id in RemoteModels(server).delete(plan.exported.encoder, but=used):
        removed.append(f"remote model {plan.exported.encoder.name} ({model_id})")
    return removed


def _needed(plan: Plan) -> dict[str, Any]:
    """Packages that have to be on the cluster."""
    needed = {}
    if plan.options.ingest and plan.options.remote is None:
        needed["encoder"] = plan.exported.encoder
    if plan.options.query == "model":
        needed["queries"] = plan.exported.queries
    return needed


def _check_index(server: Server, plan: Plan, own: bool = False) -> bool:
    """Whether the index is there, made for the same. Raises InputError where it was made for something else."""
    found = server.named(plan.index)
    if not found:
        return False
    if plan.index not in found:
        raise InputError(
            f"{server.where}: {plan.index!r} is an alias, where the index has to be: give --name"
        )
    mappings = found[plan.index]["mappings"]
    about = mappings.get("_meta", {}).get("neural_sparse", {})
    wanted = plan.about()
    if own:  # whatever it was deployed with
        wanted = {key: wanted[key] for key in ("encoder", "queries")}
    differ = [key for key, value in wanted.items() if about.get(key) != value]
    if not differ:
        return True
    if "encoder" not in about:
        what = "was not made by a deployment"
    else:
        what = "was made for " + ", ".join(f"{key} {_short(about.get(key))}" for key in differ)
        what += " (asked for now: " + ", ".join(f"{key} {_short(wanted[key])}" for key in differ) + ")"
    raise InputError(
        f"{server.where}: index {plan.index!r} {what}. Export with another --model-version (and the new index stands "
        "beside the old one until the alias switches), give another --name, or remove it first"
    )


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) > 20 else json.dumps(value)


def _alias_indexes(server: Server, plan: Plan) -> list[str]:
    """Indexes that the alias names now. Raises InputError where an index has its name."""
    found = server.named(plan.alias)
    if plan.alias in found:
        raise InputError(
            f"{server.where}: {plan.alias!r} is an index, so no alias can have this name: give --alias, or move its "
            "documents and delete it"
        )
    return sorted(found)


def _put_pipelines(server: Server, plan: Plan, ids: dict[str, str]) -> None:
    client, ask = server.client, server.ask
    if plan.ingest_pipeline is not None:
        ask(client.ingest.put_pipeline, id=plan.ingest_pipeline, body=plan.ingest_body(ids["encoder"]))
    if plan.search_pipeline is not None:
        ask(client.search_pipeline.put, id=plan.search_pipeline, body=plan.search_body(ids["queries"]))
    if plan.two_phase_pipeline is not None:
        ask(
            client.search_pipeline.put,
            id=plan.two_phase_pipeline,
            body=plan.two_phase_body(ids.get("queries")),
        )


def _create_index(server: Server, plan: Plan) -> None:
    from opensearchpy import exceptions

    def created() -> None:
        try:
            server.client.indices.create(index=plan.index, body=plan.index_body())
        except exceptions.RequestError as error:
            if error.error != "resource_already_exists_exception":
                raise

    server.ask(created)
    _check_index(server, plan)  # someone else's of the same name, made meanwhile


def _reindex(server: Server, plan: Plan, before: list[str]) -> None:
    """Fill the index with the documents of those that the alias names, encoded anew by its pipeline."""
    client, ask, patience = server.client, server.ask, server.patience
    sources = [index for index in before if index != plan.index]
    if not sources:
        return
    body = {
        "conflicts": "proceed",
        "source": {"index": sources, "_source": {"excludes": list(MADE_FIELDS)}, "size": 100},
        "dest": {"index": plan.index, "op_type": "create"},
        "script": {
            "lang": "painless",
            "source": f"ctx._source.{ENCODED_BY} = params.by",
            "params": {"by": plan.encoded_by},
        },
    }
    task_id = ask(client.reindex, body=body, params={"wait_for_completion": "false"})["task"]
    end = patience.clock() + patience.task
    while True:
        answer = ask(client.tasks.get, task_id=task_id)
        status = answer["task"]["status"]
        if answer["completed"]:
            break
        if patience.clock() > end:
            raise InputError(
                f"{server.where}: reindexing is at {status['created']:,} of {status['total']:,} documents after "
                f"{patience.task:g} s and goes on there (GET /_tasks/{task_id}); when it is done, run this again"
            )
        patience.wait(patience.look)
    failures = answer.get("response", {}).get("failures", [])
    if "error" in answer or failures:
        words = reason(answer.get("error") or failures[0].get("cause"))
        raise InputError(
            f"{server.where}: {len(failures) or 'all'} documents could not be reindexed: {cured(words)}"
        )
    ask(client.indices.refresh, index=plan.index)


def _count(server: Server, index: str) -> int:
    server.ask(server.client.indices.refresh, index=index)
    return server.ask(count_documents, server.client, index)


def _switch(server: Server, plan: Plan, before: list[str], documents: int, remarks: list[str]) -> str | None:
    """The index that the alias names at the end."""
    others = [index for index in before if index != plan.index]
    fewer = [index for index in others if _count(server, index) > documents]
    wanted = plan.options.switch if plan.options.switch is not None else not fewer
    if not wanted:
        if fewer:
            remarks.append(
                f"the alias {plan.alias} stays at {', '.join(others)}, which has more documents: fill {plan.index} "
                "(--reindex does) and run this again, or say --switch"
            )
        return ", ".join(before) or None
    actions: list[dict[str, Any]] = [{"remove": {"index": index, "alias": plan.alias}} for index in others]
    actions.append({"add": {"index": plan.index, "alias": plan.alias}})
    server.ask(server.client.indices.update_aliases, body={"actions": actions})
    return plan.index


def _pipelines(server: Server) -> list[Any]:
    from opensearchpy import exceptions

    found = []
    for get in (server.client.ingest.get_pipeline, server.client.search_pipeline.get):

        def asked(get: Any = get) -> Any:
            try:
                return get()
            except exceptions.NotFoundError:
                return {}

        found.append(server.ask(asked))
    return found


def _delete_pipeline(server: Server, api: Any, name: str) -> bool:
    from opensearchpy import exceptions

    delete = getattr(api, "delete_pipeline", None) or api.delete

    def asked() -> bool:
        try:
            delete(id=name)
        except exceptions.NotFoundError:
            return False
        return True

    return server.ask(asked)


def _remarks(plan: Plan, version: str) -> Iterator[str]:
    if plan.options.query != "model" and version.startswith("3."):
        yield (
            "a neural_sparse query with query_text alone uses OpenSearch's own analyzer bert-uncased here: "
            + ("name it, or bring query_tokens" if plan.options.query == "analyzer" else "bring query_tokens")
        )
    if plan.options.query == "model":
        yield "the cluster cuts query texts at 512 tokens; longer ones need query_tokens"
