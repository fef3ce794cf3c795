"""Reads the files of encoders: one token or n-gram per line, in the order of their ids."""

from pathlib import Path

from server.errors import BadBundle


def read_lines(path: Path) -> list[str]:
    """The lines of a file. Raises BadBundle for bytes that are not UTF-8, an
    empty line or a repeated token.
    """
    try:
        # not splitlines: a token may contain one of Unicode's other line separators
        tokens = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise BadBundle(f"{path}: cannot be read ({error.strerror}); export the bundle again.") from None
    except UnicodeDecodeError as error:
        raise BadBundle(
            f"{path}: expected UTF-8 text with one token per line, but byte {error.start} is not UTF-8."
        ) from None
    tokens = [token.removesuffix("\r") for token in tokens]
    seen: set[str] = set()
    for line, token in enumerate(tokens, start=1):
        if not token or token in seen:
            raise BadBundle(
                f"{path}: line {line} {'is empty' if not token else f'repeats the token {token!r}'}; "
                "each line must contain a different token."
            )
        seen.add(token)
    return tokens
