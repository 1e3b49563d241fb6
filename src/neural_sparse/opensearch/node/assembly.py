"""An OpenSearch that can be started, unpacked once for each version and never written to again."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import stat
import string
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neural_sparse.errors import InputError
from neural_sparse.io.files import replacing_folder, write_text
from neural_sparse.io.resources import require_space
from neural_sparse.opensearch.node.archives import (
    LIBTORCH,
    LIBTORCH_JNI,
    PLUGINS,
    SECURE_VERSIONS,
    VERSIONS,
    Artifact,
    default_cache,
    distribution,
    fetch,
    module,
    plugin,
)

_READY = "neural-sparse-5"  # a file that a finished installation holds; the number changes with what is made
_BYTES = 2_500_000_000  # of archives and unpacked files, at most
_ANY = 1000
_JAVA = {"2": (11, 23), "3": (21, _ANY)}  # 2.19 needs the security manager, which Java 24 lost


@dataclass(frozen=True)
class _Module:
    """A module that the 2.19 distribution lacks: a folder of jars with a descriptor."""

    folder: str
    classname: str
    jars: tuple[str, ...]
    libraries: tuple[Artifact, ...] = ()
    extends: str = ""
    policy: str = ""


_ASM = tuple(
    Artifact("org.ow2.asm", name, "9.7")
    for name in ("asm", "asm-util", "asm-tree", "asm-commons", "asm-analysis")
)
_HTTP = (
    *(Artifact("org.apache.httpcomponents", name, "4.4.16") for name in ("httpcore", "httpcore-nio")),
    Artifact("org.apache.httpcomponents", "httpclient", "4.5.14"),
    Artifact("org.apache.httpcomponents", "httpasyncclient", "4.1.5"),
    Artifact("commons-logging", "commons-logging", "1.2"),
)
_MODULES = (
    _Module(
        "lang-painless",
        "org.opensearch.painless.PainlessPlugin",
        ("lang-painless", "opensearch-scripting-painless-spi"),
        (Artifact("org.antlr", "antlr4-runtime", "4.13.1"), *_ASM),
        policy='grant {\n  permission java.lang.RuntimePermission "createClassLoader";\n'
        '  permission java.lang.RuntimePermission "getClassLoader";\n};\n',
    ),
    _Module(
        "analysis-common",
        "org.opensearch.analysis.common.CommonAnalysisPlugin",
        ("analysis-common",),
        extends="lang-painless",
    ),
    _Module("mapper-extras", "org.opensearch.index.mapper.MapperExtrasPlugin", ("mapper-extras-client",)),
    _Module("parent-join", "org.opensearch.join.ParentJoinPlugin", ("parent-join-client",)),
    _Module(
        "reindex",
        "org.opensearch.index.reindex.ReindexPlugin",
        ("reindex-client", "opensearch-ssl-config", "opensearch-rest-client"),
        _HTTP,
    ),
)


@dataclass(frozen=True)
class Installation:
    """An unpacked OpenSearch.

    Attributes:
        home: its folder, read by every node that is started from it.
        libtorch: folder of libtorch and its JNI library.
        java: home of a Java that it runs on.
        password: of the user admin, where it has the security plugin.
    """

    version: str
    home: Path
    libtorch: Path
    java: Path
    password: str | None


def install(version: str, security: bool = False, cache: Path | None = None) -> Installation:
    """Fetch, unpack and configure what is not there yet.

    Raises:
        InputError: a version, or security of a version, whose archives are not served; a machine that is not
            Linux on x86-64; no Java that this version runs on; an archive that cannot be had; a full disk.
    """
    if version not in VERSIONS:
        raise InputError(f"no node of OpenSearch {version}: choose from {', '.join(VERSIONS)}")
    if security and version not in SECURE_VERSIONS:
        raise InputError(
            f"the security plugin for {version} is not on Maven Central: choose {', '.join(SECURE_VERSIONS)}, or "
            "leave security off"
        )
    if not (sys.platform == "linux" and platform.machine() == "x86_64"):
        raise InputError("nodes from Maven Central run on Linux with x86-64; elsewhere use the compose file")
    java = find_java(version)
    cache = cache or default_cache()
    home = cache / f"opensearch-{version}{'-security' if security else ''}"
    libtorch = cache / f"libtorch-{LIBTORCH.version}"
    archives = cache / "archives"
    if not (libtorch / _READY).is_file() or not (home / _READY).is_file():
        require_space(cache, _BYTES, "an OpenSearch node")
    if not (libtorch / _READY).is_file():
        with replacing_folder(libtorch) as folder:
            for artifact, within in (
                (LIBTORCH, "pytorch/cpu/linux-x86_64"),
                (LIBTORCH_JNI, "jnilib/linux-x86_64/cpu"),
            ):
                unpack(fetch(artifact, archives), folder, within)
            (folder / _READY).touch()
    secret = home.with_name(f"{home.name}.password")
    if not (home / _READY).is_file() or (security and not secret.is_file()):
        with replacing_folder(home) as folder:
            _assemble(folder, version, security, archives)
            if security:
                _configure_security(folder, java, _new_password(secret))
            (folder / _READY).touch()
    password = secret.read_text().strip() if security else None
    return Installation(version, home, libtorch=libtorch, java=java, password=password)


def _assemble(folder: Path, version: str, security: bool, archives: Path) -> None:
    unpack(fetch(distribution(version), archives), folder, f"opensearch-{version}")
    for name in (*PLUGINS, *(("opensearch-security",) if security else ())):
        archive = fetch(plugin(name, version), archives)
        unpack(archive, folder / "plugins" / _plugin_name(archive))
    if version.startswith("2."):
        for made in _MODULES:
            _write_module(folder / "modules" / made.folder, made, version, archives)
    for script in (*(folder / "bin").iterdir(), *folder.glob("plugins/*/tools/*.sh")):
        script.chmod(0o755)


def _plugin_name(archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        found = re.search(r"^name=(\S+)", opened.read("plugin-descriptor.properties").decode(), flags=re.M)
    if found is None:
        raise InputError(f"{archive} is no plugin of OpenSearch: delete it, and it is fetched again")
    return found[1]


def _write_module(folder: Path, made: _Module, version: str, archives: Path) -> None:
    folder.mkdir()
    for artifact in (*(module(name, version) for name in made.jars), *made.libraries):
        shutil.copyfile(fetch(artifact, archives), folder / artifact.file)
    lines = (
        f"description={made.folder}",
        f"version={version}",
        f"name={made.folder}",
        f"classname={made.classname}",
        "java.version=11",
        f"opensearch.version={version}",
        "custom.foldername=",
        f"extended.plugins={made.extends}",
        "has.native.controller=false",
    )
    write_text(folder / "plugin-descriptor.properties", "\n".join(lines) + "\n")
    if made.policy:
        write_text(folder / "plugin-security.policy", made.policy)


def _new_password(secret: Path) -> str:
    """A password that only who may read the file `secret` knows."""
    letters = string.ascii_letters + string.digits
    password = "".join(secrets.choice(letters) for _ in range(24)) + "-aA1"
    secret.unlink(missing_ok=True)
    with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(password + "\n")
    return password


def _configure_security(folder: Path, java: Path, password: str) -> None:
    """The plugin's own demo certificates, and the password of admin."""
    tools = folder / "plugins" / "opensearch-security"
    shutil.copytree(tools / "config", folder / "config" / "opensearch-security")
    done = subprocess.run(
        [str(tools / "tools" / "install_demo_configuration.sh"), "-y", "-i", "-s"],
        env={
            **os.environ,
            "OPENSEARCH_JAVA_HOME": str(java),
            "OPENSEARCH_HOME": str(folder),
            "OPENSEARCH_INITIAL_ADMIN_PASSWORD": password,
        },
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise InputError(f"the security plugin could not be set up: {(done.stdout + done.stderr)[-1000:]}")


def unpack(archive: Path, folder: Path, within: str = "") -> None:
    """Unpack what lies in the folder `within` of a zip, and nothing outside `folder`.

    Raises:
        InputError: a member that would lie elsewhere, or is a link.
    """
    prefix = PurePosixPath(within)
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
                raise InputError(f"{archive}: member {member.filename!r} does not belong into an archive")
            if not path.is_relative_to(prefix) or path == prefix:
                continue
            target = folder / path.relative_to(prefix)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)


def find_java(version: str) -> Path:
    """Home of a Java that this OpenSearch runs on: OPENSEARCH_JAVA_HOME, JAVA_HOME, PATH, /usr/lib/jvm.

    Raises:
        InputError: there is none.
    """
    least, most = _JAVA[version.split(".")[0]]
    return find_java_between(least, most if most < _ANY else None, f"OpenSearch {version}")


def find_java_between(least: int, most: int | None, what: str) -> Path:
    """Home of a Java of one of these versions, looked for as `find_java` does.

    Args:
        what: runs on it, for the message.

    Raises:
        InputError: there is none.
    """
    seen: list[int] = []
    for home in _java_homes():
        number = _java_version(home)
        if number is not None and least <= number <= (most or _ANY):
            return home
        if number is not None:
            seen.append(number)
    wanted = f"{least} to {most}" if most is not None else f"{least} or later"
    have = f" (found: {', '.join(map(str, sorted(set(seen))))})" if seen else ""
    raise InputError(
        f"{what} runs on Java {wanted}{have}: install one, and name its folder with OPENSEARCH_JAVA_HOME"
    )


def _java_homes() -> Iterable[Path]:
    for variable in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    if found := shutil.which("java"):
        yield Path(found).resolve().parents[1]
    yield from sorted(Path("/usr/lib/jvm").glob("*/"))


def _java_version(home: Path) -> int | None:
    """Its first number, as its file `release` says."""
    try:
        text = (home / "release").read_text()
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', text, flags=re.M)
    return int(found[1]) if found and os.access(home / "bin" / "java", os.X_OK) else None
