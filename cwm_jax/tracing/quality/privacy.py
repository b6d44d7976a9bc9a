"""What must never enter a trace: secrets, and what tells on a person or a machine. A detector that names the kind.

The rules prefer a trace lost to a leak kept, but leave alone what identifies nobody: loopback and documentation
addresses (RFC 5737, 3849, 6890), mail to example domains (RFC 2606), version numbers, hexadecimal constants in source.
"""

import getpass
import ipaddress
import re
import socket
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cwm_jax.tracing.tasks.run import TaskRun
from cwm_jax.tracing.trace import Trace

# The published forms of tokens; each has a prefix that ordinary text does not. Repeats are bounded where a run of
# prefixes would else take quadratic time.
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"  # AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{40}|\bglpat-[\w-]{20}"
    r"|\bxox[abeoprs]-[\w-]{10,}"  # Slack
    r"|\bsk-(?=[\w-]{0,99}\d)[\w-]{20,}|\b[rs]k_live_[A-Za-z0-9]{20,}"  # OpenAI, Anthropic; Stripe
    r"|\bAIza[\w-]{35}|\bhf_[A-Za-z]{34}\b|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgE[\w-]{50,}"
    r"|\beyJ[\w-]{10,999}\.eyJ[\w-]{10,9999}\.[\w-]{10,}"  # JSON web token
)
_ASSIGNED = re.compile(  # a long random-looking literal under a telling name
    r"(?i:passwo?r?d|passwd|secret|token|api_?key|access_?key|credential)\w{0,20}['\"]?\s{0,9}[:=]\s{0,9}['\"]([\w+/.~-]{16,})={0,2}['\"]"
)
_URL_LOGIN = re.compile(r"(?<![\w+.-])[a-z][a-z0-9+.-]*://[^\s/:@'\"<>{}]+:([^\s/@'\"<>{}]{4,})@")
_HOME = re.compile(r"(?<![\w.])(/home/|/Users/|[A-Za-z]:(?:\\{1,4}|/)Users(?:\\{1,4}|/))([\w.-]+)(?=[/\\'\"\s:]|$)")
_TEMPORARY = re.compile(r"/tmp[a-z0-9_]{8}\b|/pytest-of-\w+")  # what `tempfile` and pytest make up
_V4 = re.compile(r"(?<![\w.+/-])(\d{1,3}(?:\.\d{1,3}){3})(?![\w-]|\.\w)")
_V6 = re.compile(r"(?<![\w:.])([0-9A-Fa-f]{3,4}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4})(?![\w:.])")
_VERSION = re.compile(r"(?i)(version|release|firmware|\bv|\bver\.?|[=<>~!]=)\W{0,3}$")
_MAC = re.compile(r"(?<![\w:.-])[0-9A-Fa-f]{2}(?P<sep>[:-])(?:[0-9A-Fa-f]{2}(?P=sep)){4}[0-9A-Fa-f]{2}(?![\w:-])")
_MAIL = re.compile(r"(?<![\w.+-])([A-Za-z0-9][\w.+-]*)@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24})\b(?!\()")
_NOBODYS_MAIL = re.compile(r"(?i)(^|\.)(example\.(com|org|net)|example|invalid|test|localhost|local)$")
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,16}\b")
# Where CPython's objects lie on 64-bit Linux and macOS, as `hex(id(x))` and `id(x)` show it.
ADDRESS_VALUE = re.compile(
    r"(?<![\w.])(?:0x(?:7f[0-9a-f]|5[56][0-9a-f])[0-9a-f]{9}|1(?:39|40)\d{12}|9[345]\d{12})(?![\w.])"
)
_DOCUMENTATION = tuple(
    map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "0.0.0.0/8", "2001:db8::/32"))
)
_COMMON_NAMES = re.compile(
    "root|user(name)?|admin(istrator)?|nobody|guest|test(er)?|ubuntu|debian|runner|build(er)?|docker|default|you|me|name"
    "|foo|bar|spam|some(one|body)|local(host)?|host|server|main|work|vm|machine|box|desktop"
)


@dataclass(frozen=True)
class Privacy:
    """The detector. `Privacy.here()` makes the one for this machine.

    Attributes:
      names: users and hosts, found as whole words.
      folders: absolute paths, found as prefixes of paths.
    """

    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()

    def __post_init__(self):
        for field in ("names", "folders"):
            if not all(text.strip("/") for text in getattr(self, field)):
                raise ValueError(f"{field}={getattr(self, field)} holds an empty one; leave it out")

    @classmethod
    def here(cls) -> "Privacy":
        """For this machine and user. Names that are common words (`root`, `vm`) identify nobody and are left out."""
        words = {socket.gethostname(), socket.gethostname().partition(".")[0], getpass.getuser(), Path.home().name}
        names = {word for word in words if len(word) > 2 and not _COMMON_NAMES.fullmatch(word.lower())}
        libraries = {sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib", "data")}
        folders = {str(Path.home()), str(Path.cwd()), *libraries} - {"/", "/usr", "/usr/local", tempfile.gettempdir()}
        return cls(tuple(sorted(names)), tuple(sorted(folders)))

    def kinds_in(self, trace: Trace | TaskRun) -> tuple[str, ...]:
        """The kinds found anywhere in a trace's text, in the order of `KINDS`; empty for a trace to keep.

        Locals and results are also searched for memory addresses that stand alone.
        """
        values = list(trace.values())
        text = "\n".join([trace.context, *dict.fromkeys(values)])
        found = set(self.kinds(text))
        if any(ADDRESS_VALUE.search(value) for value in values):
            found.add("memory address")
        return tuple(kind for kind in KINDS if kind in found)

    def kinds(self, text: str) -> tuple[str, ...]:
        """The kinds found in a piece of text, such as source code."""
        return tuple(kind for kind, holds in KINDS.items() if holds(self, text))

    def _has_secret(self, text: str) -> bool:
        if _SECRET.search(text):
            return True
        logins = (match[1] for match in _URL_LOGIN.finditer(text))
        assigned = (match[1] for match in _ASSIGNED.finditer(text))
        return any(login not in ("pass", "password", "passwd") for login in logins) or any(map(_is_random, assigned))

    def _has_path(self, text: str) -> bool:
        if _TEMPORARY.search(text) or any(
            not _COMMON_NAMES.fullmatch(match[2].lower()) for match in _HOME.finditer(text)
        ):
            return True
        return any(re.search(rf"(?<![\w.<]){re.escape(folder)}(?![\w-])", text) for folder in self.folders)

    def _has_name(self, text: str) -> bool:
        return any(re.search(rf"(?i)(?<![^\W_]){re.escape(name)}(?![^\W_])", text) for name in self.names)


def _is_random(text: str) -> bool:
    """Digits among letters, and few characters twice: no word, no path, no placeholder."""
    letters = any(character.isalpha() for character in text)
    return letters and sum(map(str.isdigit, text)) >= 3 and len(set(text)) >= 10


def _has_ip(privacy: Privacy, text: str) -> bool:
    for match in _V4.finditer(text):
        if not _is_version(match[1], text[max(0, match.start() - 16) : match.start()]) and _identifies(match[1]):
            return True
    return any(_identifies(match[1]) for match in _V6.finditer(text))


def _is_version(number: str, before: str) -> bool:
    """Whether four numbers are a version or a section: small at the front, or announced as one (our choice)."""
    large = [int(part) >= 10 for part in number.split(".")]
    return _VERSION.search(before) is not None or not (large[0] or sum(large) > 1)


def _identifies(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip.version == net.version and ip in net for net in _DOCUMENTATION)


def _has_mac(privacy: Privacy, text: str) -> bool:
    return any(len(set(re.split("[:-]", match[0].lower()))) > 1 for match in _MAC.finditer(text))


def _has_mail(privacy: Privacy, text: str) -> bool:
    return any(match[1] != "git" and not _NOBODYS_MAIL.search(match[2]) for match in _MAIL.finditer(text))


KINDS: dict[str, Callable[[Privacy, str], bool]] = {
    "secret": Privacy._has_secret,
    "path": Privacy._has_path,
    "user or host": Privacy._has_name,
    "IP address": _has_ip,
    "MAC address": _has_mac,
    "e-mail address": _has_mail,
    "memory address": lambda privacy, text: ADDRESS.search(text) is not None,
}
