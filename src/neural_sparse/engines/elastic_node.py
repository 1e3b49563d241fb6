"""A real Elasticsearch node on this machine, from the jars on Maven Central: for `verify` and for tests.

x-pack-core, which holds the sparse_vector query, is under the Elastic License 2.0: it is fetched by whoever asks for
this node, for their own use, and is no part of this package.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from importlib.resources import as_file, files
from pathlib import Path

from neural_sparse.engines.maven import artifact_of, default_cache, fetched, java_of, known
from neural_sparse.engines.programs import end, free_port
from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing_folder, write_text

logger = logging.getLogger(__name__)

VERSION = "9.5.3"
_READY = "neural-sparse-1"
# Of the modules; all other jars are the node's own.
_MODULES = {
    "transport-netty4": r"netty-|transport-netty4",
    "x-pack-core": r"x-pack-core|http|commons-|unboundid|elasticsearch-ssl-config|slf4j|log4j-slf4j|log4j-1\.2",
}


def assembled() -> Path:
    """A home of Elasticsearch, made once.

    Raises:
        InputError: a library cannot be had.
    """
    home = default_cache() / f"elasticsearch-{VERSION}"
    if (home / _READY).is_file():
        return home
    logger.info(
        "fetching Elasticsearch %s from Maven Central; its x-pack-core is under the Elastic License 2.0",
        VERSION,
    )
    jars = fetched(artifact_of(path) for path in known() if "lucene-core-10.6" not in path)
    with replacing_folder(home) as folder:
        for name in ("lib", "config", "plugins", *(f"modules/{module}" for module in _MODULES)):
            (folder / name).mkdir(parents=True)
        for jar in jars:
            module = next((name for name, pattern in _MODULES.items() if re.match(pattern, jar.name)), None)
            shutil.copyfile(jar, folder / (f"modules/{module}" if module else "lib") / jar.name)
            if module is not None and jar.name.startswith(module):
                with zipfile.ZipFile(jar) as archive:
                    described = archive.read(
                        f"META-INF/es-plugins/{module}/plugin-descriptor.properties"
                    ).decode()
                lines = [line for line in described.splitlines() if not line.startswith("modulename=")]
                write_text(
                    folder / "modules" / module / "plugin-descriptor.properties", "\n".join(lines) + "\n"
                )
        (folder / _READY).touch()
    return home


class ElasticNode:
    """One Elasticsearch on loopback, ready when made, ended and gone after `stop`.

    Attributes:
        url: its address.

    Raises:
        InputError: no Java 25; a library that cannot be had; a node that ends or is not ready in time.
    """

    def __init__(self, heap: str = "1g", patience: float = 180.0) -> None:
        java = java_of(25, f"Elasticsearch {VERSION} as it is started here")
        home = assembled()
        self._folder = tempfile.TemporaryDirectory(prefix="elasticsearch-", ignore_cleanup_errors=True)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        with as_file(files("neural_sparse.engines").joinpath("java", "ElasticsearchNode.java")) as program:
            command = [str(java / "bin" / "java"), f"-Xms{heap}", f"-Xmx{heap}"]
            command += ["--add-modules", "jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED"]
            command += [f"-Des.path.home={home}", f"-Djava.io.tmpdir={self._folder.name}"]
            command += ["-cp", f"{home}/lib/*", str(program), str(home), self._folder.name, str(port)]
            with (Path(self._folder.name) / "output").open("wb") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,  # closed when this process ends, and with it the node
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                self._wait(patience)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        end(self._process)
        self._folder.cleanup()

    def _wait(self, patience: float) -> None:
        finish = time.monotonic() + patience
        while time.monotonic() < finish:
            if self._process.poll() is not None:
                raise InputError(
                    f"Elasticsearch {VERSION} ended with {self._process.returncode}:\n{self._log()}"
                )
            try:
                with urllib.request.urlopen(f"{self.url}/_cluster/health?timeout=5s", timeout=10) as answer:
                    if json.load(answer)["status"] in ("green", "yellow"):
                        return
            except (OSError, ValueError):
                pass
            time.sleep(0.25)
        raise InputError(f"Elasticsearch {VERSION} was not ready within {patience:g} s:\n{self._log()}")

    def _log(self) -> str:
        return (Path(self._folder.name) / "output").read_text(errors="replace")[-2000:]
