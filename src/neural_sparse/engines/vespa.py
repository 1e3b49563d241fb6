"""Vespa: mapped tensors, scored by their product; an application package and a feed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from neural_sparse.engines.document_files import counts, write_client, write_documents, write_queries
from neural_sparse.engines.limits import Limits
from neural_sparse.engines.vectors import VectorSource
from neural_sparse.io.files import write_text

LIMITS = Limits("Vespa")
# The heaviest tokens of a query are looked for by WAND in `tokens`, a weighted set of whole numbers; what it finds is
# scored by the tensors.
_SCHEMA = """\
schema doc {
    document doc {
        field id type string {
            indexing: summary | attribute
        }
        field text type string {
            indexing: summary | index
            index: enable-bm25
        }
        field tokens type weightedset<int> {
            indexing: attribute
            attribute: fast-search
        }
        field vector type tensor<float>(token{}) {
            indexing: attribute
        }
    }
    rank-profile sparse {
        inputs {
            query(q) tensor<float>(token{})
        }
        first-phase {
            expression: sum(query(q) * attribute(vector))
        }
    }
    rank-profile bm25 {
        first-phase {
            expression: bm25(text)
        }
    }
}
"""
_SERVICES = """\
<?xml version="1.0" encoding="utf-8" ?>
<services version="1.0">
  <container id="default" version="1.0">
    <search />
    <document-api />
  </container>
  <content id="content" version="1.0">
    <redundancy>1</redundancy>
    <documents>
      <document type="doc" mode="index" />
    </documents>
    <nodes>
      <node distribution-key="0" hostalias="node1" />
    </nodes>
  </content>
</services>
"""
WHOLE = 1000  # of a weight in the weighted set, which only decides what WAND looks at


def write_vespa(folder: Path, source: VectorSource) -> dict[str, Any]:
    """application/ (schema and services), documents.jsonl (a feed), queries.jsonl, client.py."""

    def line(row: int, doc_id: str, text: str, ids: list[int], weights: list[str]) -> str:
        name = json.dumps(f"id:sparse:doc::{quote(json.loads(doc_id), safe='')}")
        cells = ",".join(f'"{token}":{weight}' for token, weight in zip(ids, weights, strict=True))
        whole = ",".join(
            f'"{token}":{max(1, round(WHOLE * float(weight)))}'
            for token, weight in zip(ids, weights, strict=True)
        )
        fields = f'"id":{doc_id},"text":{text},"tokens":{{{whole}}},"vector":{{"cells":{{{cells}}}}}'
        return f'{{"put":{name},"fields":{{{fields}}}}}'

    told = LIMITS.check(source)
    (folder / "application" / "schemas").mkdir(parents=True)
    write_text(folder / "application" / "schemas" / "doc.sd", _SCHEMA)
    write_text(folder / "application" / "services.xml", _SERVICES)
    written = write_documents(folder, source, line)
    write_queries(folder, source)
    write_client(folder, "vespa")
    return counts(source, written, told)
