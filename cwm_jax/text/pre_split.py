"""Where a text is cut before it is tokenised: no token crosses a cut."""

import re
from collections.abc import Iterator

_KEYWORDS = (
    "and as assert async await break class continue def del elif else except finally for from global if import in is "
    "lambda nonlocal not or pass raise return try while with yield"
).replace(" ", "|")

# One alternative per line, tried in this order (our choice: every value spelled, every name one token).
PRE_SPLIT = "|".join(
    (
        r"(?m:^) +",  # indentation
        r"""(?P<formatted>\b[fF](?:'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?))""",  # f-strings
        r"""'[^'\\\n]'|"[^"\\\n]\"""",  # a string of one letter is one token
        r"""(?P<spelled>'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?|\d+)""",  # string literals, cut off ones too; numbers
        rf" ?\b(?:{_KEYWORDS})\b ?",  # keywords take the spaces around them, names never do: one name, one token
        r"[^\W\d]+",  # names; a digit in one stands alone
        r"[)\]}]+(?= )",  # so that the operator or keyword after a bracket has both its spaces
        r" ?(?:(?!-\d)[^\w\s'\"])+[ \n]?",  # operators and brackets, `):\n` together; a sign stands alone
        r" +",
    )
)

_FIELDS = re.compile(r"(?<=\{)([^{}]+)(?=\})")  # the replacement fields of an f-string


def cut(pre_split: re.Pattern, text: str) -> Iterator[str]:
    """Cuts `text` at the matches of `pre_split`; the pieces joined are `text` again.

    A match is one piece. Each character is one in a match of the group `spelled`, and between matches;
    in a match of the group `formatted` too, except that what braces hold is cut as code.
    """
    end = 0
    for match in pre_split.finditer(text):
        start = match.start()
        if start > end:
            yield from text[end:start]
        end = match.end()
        if match.lastgroup == "spelled":
            yield from match[0]
        elif match.lastgroup == "formatted":
            for index, part in enumerate(_FIELDS.split(match[0])):
                yield from cut(pre_split, part) if index % 2 else part
        elif end > start:
            yield match[0]
    yield from text[end:]
