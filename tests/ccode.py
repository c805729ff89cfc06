# SPDX-License-Identifier: MIT
"""As much understanding of C as tests/tidy.py needs: comments, code, calls.

Nothing here is a parser. It relies on the tree being formatted by clang-format:
a function's braces stand in column one, for example.
"""

import bisect
import re
from dataclasses import dataclass

TOKEN = re.compile(r'''
    (?P<comment> /\*.*?\*/ | //[^\n]* )
  | (?P<string>  "(?:\\.|[^"\\\n])*" )
  | (?P<char>    '(?:\\.|[^'\\\n])*' )
''', re.X | re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
FUNCTION = re.compile(r'^\{$.*?^\}$', re.M | re.S)


@dataclass
class Comment:
    """A comment, and the lines it covers."""
    first: int
    last: int
    text: str


@dataclass
class Call:
    """NAME(ARGUMENTS), and the lines it covers."""
    name: str
    arguments: str
    first: int
    last: int


def blank(text):
    """Spaces of the same shape."""
    return re.sub(r'[^\n]', ' ', text)


class CFile:
    """One file of C: its text, its code without comments and strings."""

    def __init__(self, text):
        self.text = text
        self.comments = []
        self._starts = [0] + [match.end() for match in re.finditer('\n', text)]
        self.code = TOKEN.sub(self._take, text)

    def _take(self, match):
        if match.lastgroup == 'comment':
            self.comments.append(Comment(self.line(match.start()),
                                         self.line(match.end() - 1),
                                         match.group()))
            return blank(match.group())
        quote = match.group()[0]
        return quote + blank(match.group()[1:-1]) + quote

    def line(self, offset):
        """The number of the line at this offset."""
        return bisect.bisect_right(self._starts, offset)

    def line_count(self):
        """How many lines the file has."""
        return self.text.count('\n')

    def includes(self):
        """(line, bracket, path) of every include; strings are intact here."""
        for match in INCLUDE.finditer(self.text):
            if self.code[match.start():match.start(1)].strip():
                yield self.line(match.start(1)), match.group(1), match.group(2)

    def find(self, pattern):
        """(line, match) of every place in the code."""
        for match in re.finditer(pattern, self.code):
            yield self.line(match.start()), match

    def calls(self, pattern):
        """Every call of a function whose name matches the pattern."""
        for match in re.finditer(rf'\b({pattern})\s*\(', self.code):
            depth, end = 1, match.end()
            while depth and end < len(self.code):
                depth += {'(': 1, ')': -1}.get(self.code[end], 0)
                end += 1
            yield Call(match.group(1), self.code[match.end():end - 1],
                       self.line(match.start()), self.line(end - 1))

    def functions(self):
        """(first line, number of lines) of every function's body."""
        for match in FUNCTION.finditer(self.code):
            first, last = self.line(match.start()), self.line(match.end())
            yield first, last - first + 1

    def comments_near(self, first, last, before):
        """Comments that end at most @before lines above, or stand beside."""
        return [comment for comment in self.comments
                if first - before <= comment.last and comment.first <= last]

    def opening_comment(self):
        """The first comment that is more than the licence, or ''."""
        for comment in self.comments:
            if 'SPDX-License-Identifier' not in comment.text:
                return comment.text
        return ''
