"""rank_features for any OpenSearch or Elasticsearch, and sparse_vector, as files for their own API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from neural_sparse.engines.vectors import VectorSource
from neural_sparse.errors import InputError
from neural_sparse.io.files import write_json, write_text
from neural_sparse.opensearch.features import (
    MAX_CLAUSES,
    escaped,
    query_tokens,
    rank_feature_query,
    vector_objects,
)
from neural_sparse.opensearch.guards import check_ids
from neural_sparse.opensearch.seismic import Seismic, SeismicSearch, token_ids
from neural_sparse.opensearch.vector_index import index_body

FILE_BYTES = 10_000_000  # what one _bulk request may well hold

_LOAD = """\
#!/usr/bin/env bash
# Makes the index NAME and fills it: SEARCH_URL=https://host:9200 ./load.sh NAME
# SEARCH_NETRC names a file in netrc format, for a cluster that wants a login; SEARCH_CA its certificate authority.
set -euo pipefail
cd "$(dirname "$0")"
index=${1:?name the index}
: "${SEARCH_URL:?set SEARCH_URL to the address of the cluster}"
send() {
  local status
  status=$(curl --silent --show-error \\
    ${SEARCH_NETRC:+--netrc-file "$SEARCH_NETRC"} ${SEARCH_CA:+--cacert "$SEARCH_CA"} \\
    --request "$1" --header "Content-Type: $2" --data-binary "@$3" --output "$answer" --write-out '%{http_code}' \\
    "${SEARCH_URL%/}/$4") || { echo "no answer from $SEARCH_URL to $1 /$4" >&2; exit 1; }
  if [[ $status != 2* ]]; then
    echo "$1 /$4 ($3): HTTP $status: $(head -c 1000 "$answer")" >&2
    case $(<"$answer") in
      *resource_already_exists_exception*)
        echo "the index $index is there already: name another, or delete it (DELETE /$index)" >&2 ;;
    esac
    exit 1
  fi
  cat "$answer"
}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
send PUT application/json index.json "$index" >/dev/null
for file in documents-*.ndjson; do
  send POST application/x-ndjson "$file" "$index/_bulk?pipeline=_none" | python3 -c '
import json, sys
items = [next(iter(item.values())) for item in json.load(sys.stdin)["items"]]
failed = [item for item in items if item["status"] >= 300]
for item in failed:
    reason = item["error"]["reason"] if "error" in item else ""
    print(sys.argv[1], item["_id"], item["status"], reason, file=sys.stderr)
print(f"{sys.argv[1]}: {len(items) - len(failed):,} documents")
sys.exit(bool(failed))
' "$file"
done
send POST application/json /dev/null "$index/_refresh" >/dev/null
"""


def write_rank_features(folder: Path, source: VectorSource) -> dict[str, Any]:
    """index.json, documents-NNNNN.ndjson for _bulk, queries.jsonl ({_id, text, query}) and load.sh.

    Raises:
        InputError: an id of more than 512 bytes, a query weight outside (0, 64], or a query of more than 1,024 tokens.
    """

    def query(tokens: Mapping[str, float]) -> dict[str, Any]:
        return rank_feature_query(tokens, "embedding", MAX_CLAUSES)

    return _write(
        folder,
        source,
        escaped(source.tokens),
        index=index_body(source.tokens, "escaped", fingerprint=source.fingerprint),
        query=query,
    )


def write_sparse_vector(folder: Path, source: VectorSource, seismic: Seismic | None = None) -> dict[str, Any]:
    """The same for a sparse_vector field of OpenSearch 3.3 or later: keys are token ids, documents without tokens have
    no vector, and queries find the 10 best.

    Args:
        seismic: how clusters are made; as `Seismic()`, but weights are clipped nowhere.

    Raises:
        InputError: as `write_rank_features`.
    """
    ceilings = (
        max(
            float(source.documents.max()) if source.documents.nnz else 0.0,
            Seismic.quantization_ceiling_ingest,
        ),
        max(float(source.queries.max()) if source.queries.nnz else 0.0, Seismic.quantization_ceiling_search),
    )
    seismic = seismic or Seismic(
        quantization_ceiling_ingest=ceilings[0], quantization_ceiling_search=ceilings[1]
    )
    search = SeismicSearch()

    def query(tokens: Mapping[str, float]) -> dict[str, Any]:
        return search.query(tokens, "embedding", 10)

    index = index_body(source.tokens, "plain", seismic=seismic, fingerprint=source.fingerprint)
    return _write(folder, source, token_ids(source.tokens), index=index, query=query)


def _write(
    folder: Path,
    source: VectorSource,
    names: list[str],
    *,
    index: dict[str, Any],
    query: Callable[[Mapping[str, float]], dict[str, Any]],
) -> dict[str, Any]:
    check_ids(source.doc_ids)
    write_json(folder / "index.json", index)
    files = _write_documents(folder, source, names)
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as out:
        rows = zip(source.query_ids, source.query_texts, query_tokens(source.queries, names), strict=True)
        for query_id, text, tokens in rows:
            try:
                body = query(tokens)
            except InputError as error:
                raise InputError(f"query {query_id!r}: {error}") from error
            out.write(json.dumps({"_id": query_id, "text": text, "query": body}, ensure_ascii=False) + "\n")
    write_text(folder / "load.sh", _LOAD)
    (folder / "load.sh").chmod(0o755)
    return {"documents": len(source.doc_ids), "queries": len(source.query_ids), "files": files}


def _write_documents(folder: Path, source: VectorSource, names: list[str]) -> int:
    """Number of files."""
    out: IO[bytes] | None = None
    files = size = 0
    for lines in _lines(source, names):
        if out is None or size + len(lines) > FILE_BYTES:
            if out is not None:
                out.close()
            out = (folder / f"documents-{files:05d}.ndjson").open("wb")
            files, size = files + 1, 0
        out.write(lines)
        size += len(lines)
    if out is not None:
        out.close()
    return files


def _lines(source: VectorSource, names: list[str]) -> Iterator[bytes]:
    vectors = vector_objects(source.documents, names)
    for doc_id, text, vector in zip(source.doc_ids, source.texts, vectors, strict=True):
        head = json.dumps({"index": {"_id": doc_id}}, ensure_ascii=False)
        body = json.dumps(text, ensure_ascii=False)
        # As a first document, an empty vector would poison a sparse_vector field.
        embedding = f',"embedding":{vector}' if vector != "{}" else ""
        line = f'{head}\n{{"text":{body}{embedding}}}\n'
        yield line.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
