"""Escaping of untrusted text, so that it is safe to print."""

import re

# C0 and C1 control characters (including escape), marks that reorder text or end lines, and the
# surrogates that stand for bytes of a file name that are not UTF-8.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""The text with its control characters written as \x1b, except those in `keep`.

    A file name may contain terminal commands; `git` and `ls` escape such names, too.
    """

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return _CONTROLS.sub(escape, text)
