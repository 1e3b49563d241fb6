"""The document side for an endpoint: what SageMaker unpacks, and the bodies that tell a cluster of it."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

from neural_sparse.io.files import check_output_folder, replacing_folder, write_json, write_text
from neural_sparse.opensearch.deploy.exported import MANIFEST, Exported
from neural_sparse.opensearch.remote import inference
from neural_sparse.opensearch.remote.connector import Remote

ARCHIVE = "model.tar.gz"
_ENDPOINT = "https://runtime.sagemaker.REGION.amazonaws.com/endpoints/ENDPOINT/invocations"
_README = """\
# Documents of {name} {version} over HTTP

`model.tar.gz` is a model for SageMaker's PyTorch images: the package that was exported and proven, `code/inference.py`
and what that needs (torch is in the image). Anywhere else, with torch and tokenizers:

    mkdir -p model && tar -xzf model.tar.gz -C model
    python model/code/inference.py model --host 0.0.0.0 --port 8080
    curl -s localhost:8080/invocations -d '{{"inputs": ["sort a list"]}}'

With {key} set, requests have to bring it as a bearer token.

The command that tells a cluster of it, makes the pipelines and the index, and proves the vectors:

    neural-sparse deploy EXPORT --url https://... --remote https://.../invocations

sends `connector.json` (a SageMaker endpoint; REGION, ENDPOINT, ACCOUNT and ROLE are to be filled in) or
`connector-http.json` (any other) to POST /_plugins/_ml/connectors/_create, and `register.json`, with the id that this
answers, to POST /_plugins/_ml/models/_register?deploy=true.
"""


def write_remote_package(export: str | Path, output: str | Path) -> dict[str, Any]:
    """Write model.tar.gz, connector.json, connector-http.json, register.json, README.md and export.json.

    Args:
        export: folder written by `neural-sparse export`.

    Returns:
        What export.json says.

    Raises:
        InputError: a folder that is no export; `output` holds something.
    """
    exported = Exported.open(export)
    output = check_output_folder(output)
    package = exported.encoder
    sagemaker = Remote(_ENDPOINT.replace("REGION", "region"), "arn:aws:iam::000000000000:role/ROLE")
    plain = Remote("https://HOST:PORT/invocations", key="KEY")
    with replacing_folder(output) as folder:
        _write_archive(folder / ARCHIVE, package.path)
        connector = sagemaker.connector(package)
        connector["actions"][0]["url"] = _ENDPOINT
        connector["parameters"]["region"] = "REGION"
        connector["credential"]["roleArn"] = "arn:aws:iam::ACCOUNT:role/ROLE"
        register = sagemaker.registration(package, "CONNECTOR_ID")
        http = plain.connector(package)
        for body in (connector, register, http):
            body["description"] = f"{package.name} {package.version}"
        write_json(folder / "connector.json", connector)
        write_json(folder / "connector-http.json", http)
        write_json(folder / "register.json", register)
        write_text(
            folder / "README.md",
            _README.format(name=exported.name, version=exported.version, key=inference.KEY),
        )
        about = {
            "format": "remote",
            "name": exported.name,
            "version": exported.version,
            "encoder": package.sha256,
        }
        write_json(folder / MANIFEST, about)
    return about


def _write_archive(path: Path, package: Path) -> None:
    """The same bytes for the same package."""
    code = Path(inference.__file__).read_bytes()
    members: dict[str, bytes | Path] = {
        package.name: package,
        "code/inference.py": code,
        "code/requirements.txt": b"tokenizers>=0.22\n",
    }
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.mode = 0o644
            if isinstance(content, Path):
                about.size = content.stat().st_size
                with content.open("rb") as file:
                    archive.addfile(about, file)
            else:
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
