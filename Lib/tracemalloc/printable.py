"""Foreign text on a terminal, or in a report that is read on one.

Names of files, functions and types, and messages, may come from a snapshot or
a process that somebody else has made.  They may hold anything, also commands
that a terminal would obey.  So everything that is shown to people passes
through printable(), at the latest when it is written; data for programs does
not.
"""


def printable(text):
    """Return *text* on one line, with escapes for what cannot be seen.

    Only the printable characters of Unicode and the space remain.  Control
    characters, marks that change the direction of text, line separators and
    lone surrogates become escapes.
    """
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else ascii(char)[1:-1]
                   for char in text)


def encodable(text, encoding):
    """Return *text* with escapes for what the encoding lacks."""
    return text.encode(encoding, 'backslashreplace').decode(encoding)
