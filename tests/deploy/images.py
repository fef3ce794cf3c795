"""Images of the Dockerfiles, built by buildah and run by podman: real ones, but without a daemon and without
a registry.

A root that debootstrap makes of this host's own release stands in for the base image, with Debian's packages
where the host is Debian. Pip is set as on this host.
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
    # U: owned by the image's user, where Compose has uid and gid; podman then keeps the mode that /tmp has in
    # the image
    "--tmpfs",
    "/tmp:U",  # noqa: S108
    # podman's own are above what it may set in some containers
    "--ulimit",
    "nofile=4096:4096",
    "--ulimit",
    "nproc=4096:4096",
]
"""As docker-compose.yml has it but for the mode of /tmp, on this host's loopback."""
ALONE = {"DISABLE_HC_SYSTEMD": "true"}
"""Podman has systemd run the health checks; here the test asks for each."""


def missing() -> str:
    """What this host lacks; "" where it has all."""
    tools = [each for each in ("buildah", "podman", "runc", "debootstrap") if not shutil.which(each)]
    return "not root" if os.geteuid() else " and ".join(tools) and f"not installed: {', '.join(tools)}"


@dataclass(frozen=True)
class Images:
    folder: Path
    """All images and containers are below it."""

    def command(self, tool: str, *words: str | Path) -> list[str]:
        places: list[str | Path] = [
            "--root",
            self.folder / "root",
            "--runroot",
            self.folder / "run",
            "--storage-driver",
            "overlay",
        ]
        return [tool, *map(str, places), *OWN[tool], *map(str, words)]

    def do(self, tool: str, *words: str | Path) -> str:
        """What the command writes; a failure fails the test with the end of what it says."""
        done = subprocess.run(
            self.command(tool, *words), env=os.environ | ALONE, check=False, capture_output=True, text=True
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
        """Build a stage with all that it stands on; the image's name."""
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
    """Write this host's settings of pip into one file; the volumes with which they hold in a build."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    # backwards, so that the environment's, which begin with a colon, come last and hold
    named = (line.split("=", 1) for line in sorted(found.splitlines(), reverse=True))
    settings = {
        name.split(".", 1)[1]: " ".join(str(ast.literal_eval(value)).split()) for name, value in named
    }
    volumes = [f"{config}:/etc/pip.conf:ro"]
    if certificates := settings.pop("cert", ""):
        # at their own place the package ca-certificates could not be installed
        volumes.append(f"{certificates}:{CERTIFICATES}:ro")
        settings["cert"] = CERTIFICATES
    words = [word for value in settings.values() for word in value.split()]
    # an index names its files by paths that begin beside it
    paths = {
        Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
        for word in words
    }
    config.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    return volumes + [f"{path}:{path}:ro" for path in sorted(paths) if path.is_absolute() and path.exists()]


@contextmanager
def store(folder: Path) -> Iterator[Images]:
    """Room for images with the base among them; all is removed at the end, for it is gigabytes."""
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
