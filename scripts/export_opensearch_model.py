"""Export a model for OpenSearch: the document side as one zip, everything else in the folder beside it.

    python scripts/export_opensearch_model.py \
        --model_path outputs/opensearch-neural-v2/final_model --output_path opensearch_model.zip

writes opensearch_model.zip (what ML Commons registers as SPARSE_ENCODING) and opensearch_model/ with the query side,
the configurations, and deploy.http, the requests to be read. `neural-sparse export` has more options, and
`neural-sparse deploy` puts the folder on a cluster.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from neural_sparse.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--model_path", required=True, help="a doc-only model: folder, hub id, package folder"
    )
    parser.add_argument("--output_path", required=True, type=Path, help="the zip to write")
    parser.add_argument("--idf", type=Path, help="query weights to use instead of the model's (idf.json)")
    parser.add_argument("--collection", help="collection on which rankings are compared too")
    arguments = parser.parse_args()
    try:
        export(arguments.model_path, arguments.output_path, arguments.idf, arguments.collection)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def export(model_path: str, output_path: Path, idf: Path | None, collection: str | None) -> None:
    from neural_sparse.cli.export import export_and_show
    from neural_sparse.io.files import replacing
    from neural_sparse.opensearch.export import ExportOptions

    if output_path.suffix != ".zip":
        raise InputError(f"{output_path}: --output_path names a .zip")
    if output_path.exists():
        raise InputError(f"{output_path} exists; choose another --output_path, or delete it")
    folder = output_path.with_suffix("")
    done = export_and_show(model_path, folder, ExportOptions(), idf, collection=collection)
    with replacing(output_path) as temporary:
        shutil.copyfile(done.packages[0].path, temporary)
    print(f"written: {output_path} (documents) and {folder} (queries, configurations, requests)")


if __name__ == "__main__":
    main()
