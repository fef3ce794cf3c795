"""Builds the Dockerfiles with buildah and runs them with podman: real images without a daemon or a registry.

The base image is replaced by a debootstrap of this host's own release. Pip has the settings of this host.
"""

import ast
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import ROOT

BASE = "localhost/base"
CERTIFICATES = "/etc/pip.crt"
OWN: dict[str, list[str]] = {"buildah": [], "podman": ["--runtime", "runc", "--cgroup-manager", "cgroupfs"]}
CONFINED = [
    "--network",
    "host",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "all",
    "--security-opt",
    "no-new-privileges",
    # U: owned by the image's user; Compose sets uid and gid instead. podman keeps the image's mode of /tmp
    "--tmpfs",
    "/tmp:U",  # noqa: S108
    # podman's defaults exceed what it may set in some containers
    "--ulimit",
    "nofile=4096:4096",
    "--ulimit",
    "nproc=4096:4096",
]
"""As in docker-compose.yml except for the mode of /tmp, on this host's loopback."""
NO_SYSTEMD = {"DISABLE_HC_SYSTEMD": "true"}
"""By default podman lets systemd run the health checks; here the test runs them."""


def missing() -> str:
    """The tools that are missing on this host; "" if none is."""
    tools = [each for each in ("buildah", "podman", "runc", "debootstrap") if not shutil.which(each)]
    return "not root" if os.geteuid() else " and ".join(tools) and f"not installed: {', '.join(tools)}"


@dataclass(frozen=True)
class Images:
    folder: Path
    """All images and containers are below it."""

    def command(self, tool: str, *words: str | Path) -> list[str]:
        storage: list[str | Path] = [
            "--root",
            self.folder / "root",
            "--runroot",
            self.folder / "run",
            "--storage-driver",
            "overlay",
        ]
        return [tool, *map(str, storage), *OWN[tool], *map(str, words)]

    def do(self, tool: str, *words: str | Path) -> str:
        """The command's output. If it fails, the test fails with the end of the output."""
        done = subprocess.run(
            self.command(tool, *words),
            env=os.environ | NO_SYSTEMD,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (
            f"{words} ended with status {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
        return done.stdout.strip()

    def make_base(self) -> None:
        root = self.folder / "base"
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        subprocess.run(["debootstrap", "--variant=minbase", release, root], check=True, capture_output=True)  # noqa: S607
        container = self.do("buildah", "from", "scratch")
        self.do("buildah", "add", container, root, "/")
        self.do("buildah", "commit", "--rm", container, BASE)
        shutil.rmtree(root)

    def build(self, dockerfile: str, target: str) -> str:
        """Build a stage and the stages it needs. Returns the image's name."""
        name = f"localhost/{dockerfile.lower()}:{target}"
        volumes = [word for each in pip_settings(self.folder / "pip.conf") for word in ("--volume", each)]
        options: list[str | Path] = [
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--layers",
            "--format",
            "docker",
            *volumes,
        ]
        arguments: list[str | Path] = [
            "--build-arg",
            f"BASE={BASE}",
            "--build-arg",
            "REVISION=tested",
            "--file",
            ROOT / dockerfile,
            "--target",
            target,
            "--tag",
            name,
        ]
        self.do("buildah", "build", *options, *arguments, ROOT)
        return name


def pip_settings(config: Path) -> list[str]:
    """Write this host's pip settings to one file. Returns the volumes that a build needs for them."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    # in reverse order: settings from the environment begin with a colon and must come last to take precedence
    named = (line.split("=", 1) for line in sorted(found.splitlines(), reverse=True))
    settings = {
        name.split(".", 1)[1]: " ".join(str(ast.literal_eval(value)).split()) for name, value in named
    }
    volumes = [f"{config}:/etc/pip.conf:ro"]
    if certificates := settings.pop("cert", ""):
        # mounted elsewhere, because at its own path it would block the package ca-certificates
        volumes.append(f"{certificates}:{CERTIFICATES}:ro")
        settings["cert"] = CERTIFICATES
    words = [word for value in settings.values() for word in value.split()]
    # an index names its files by paths relative to its parent folder
    paths = {
        Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
        for word in words
    }
    config.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    return volumes + [f"{path}:{path}:ro" for path in sorted(paths) if path.is_absolute() and path.exists()]


@contextmanager
def store(folder: Path) -> Iterator[Images]:
    """Storage with the base image. Everything is removed at the end, because it takes gigabytes."""
    images = Images(folder)
    try:
        images.make_base()
        yield images
    finally:
        for command in (
            ("podman", "rm", "--all", "--force"),
            ("buildah", "rm", "--all"),
            ("buildah", "rmi", "--all", "--force"),
        ):
            subprocess.run(images.command(*command), check=False, capture_output=True)
        subprocess.run(["umount", folder / "root/overlay"], check=False, capture_output=True)  # noqa: S607
        shutil.rmtree(folder)
