"""Passwords and tokens: none is taken in an address, none is written, and here is where they come from instead.

A run's address is kept in its record, its store and its folder of downloads, all of them made to be passed on.
"""

import netrc
import os
import re
from base64 import b64encode
from urllib.parse import unquote

VARIABLE = "TRIZOO_AUTHORIZATION"
INSTEAD = (
    "leave it out. A user name and a password belong in ~/.netrc (machine HOST login NAME password "
    f"WORD), a token in the environment variable {VARIABLE} ('Bearer TOKEN'); either is sent to the "
    "host of dataset.images alone"
)
ADDRESS = re.compile(r"(?:(?<=://)|(?<=hub:))(?P<authority>[^/?#\s\"']*)(?P<rest>[^\s\"']*)")
PARAMETER = re.compile(r"(?P<name>[^?&;=#]+)=(?P<value>[^&;#]*)")
PLACEHOLDER = re.compile(r"\{\w*\}")
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|\W+")  # what parts them
SECRET = re.compile(
    r"(.*_)?(((api|access|private|secret)_?)+key(_id)?|\w*token|secret|pass|passwd|password|passphrase|pwd|sig"
    r"|signature|credentials?|auth|authorization)|key"
)


def names_secret(name: str) -> bool:
    """Whether a parameter or a variable called `name` holds a secret by what it is called."""
    words = WORDS.sub("_", name).lower().strip("_")
    return SECRET.fullmatch(words) is not None


def refuse(name: str, text: str) -> None:
    """Raise ValueError, without saying what it is, if an address in `text`, the value of `name`, holds a secret."""
    for found in ADDRESS.finditer(text):
        port = re.search(r"(?<=:)[^\]:@]+$", found["authority"])
        if "@" in found["authority"]:
            raise ValueError(
                f"{name} holds a user name or a password before its host, and would be kept as it is; {INSTEAD}"
            )
        if port is not None and not port[0].isdecimal():
            raise ValueError(
                f"{name} has something after its host that is no number of a port; if it is a password, {INSTEAD}"
            )
        for parameter in PARAMETER.finditer(found["rest"].partition("?")[2]):
            if names_secret(unquote(parameter["name"])) and PLACEHOLDER.sub("", parameter["value"]):
                raise ValueError(
                    f"{name} holds a secret, the parameter {parameter['name']!a}, and would be kept as it is; {INSTEAD}"
                )


def redacted(text: str) -> str:
    """`text`, perhaps of somebody else's making, with every secret in an address left out."""

    def parameter(found: re.Match) -> str:
        secret = names_secret(unquote(found["name"]))
        return f"{found['name']}=..." if secret else found[0]

    def address(found: re.Match) -> str:
        path, mark, query = found["rest"].partition("?")
        return found["authority"].rpartition("@")[2] + path + mark + PARAMETER.sub(parameter, query)

    return ADDRESS.sub(address, text)


def authorization(host: str) -> str | None:
    """What tells `host` who asks: the environment's TRIZOO_AUTHORIZATION, or what ~/.netrc has of it; None: nothing.

    Raises ValueError, without saying what it is, if that is no line of ASCII.
    """
    if value := os.environ.get(VARIABLE):
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"{VARIABLE} is not one line of ASCII; write e.g. 'Bearer TOKEN'")
        return value
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).hosts.get(host)
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError, UnicodeError) as problem:
        from shared.run.progress import say  # slow to import

        line = f", line {problem.lineno}" if isinstance(problem, netrc.NetrcParseError) else ""
        say(f"~/.netrc is not used: it cannot be read{line}, or others can")
        return None
    if entry is None:
        return None
    login, _, password = entry
    return "Basic " + b64encode(f"{login}:{password}".encode()).decode()
