"""Foreign text on a terminal, or in a report that is read on one.

Names of files, functions and types, and messages, may come from a snapshot or
a process that somebody else has made.  They may hold anything; a terminal
must not obey it.  Everything that is shown to people passes printable(), where
it is written at the latest; data for programs does not.
"""


def printable(text):
    """Return *text* on one line, what cannot be seen in it as escapes.

    That is all but the printable characters of Unicode and the space: control
    characters, what changes the direction of text, line separators, lone
    surrogates.
    """
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() else ascii(char)[1:-1]
                   for char in text)


def encodable(text, encoding):
    """Return *text* with escapes for what the encoding lacks."""
    return text.encode(encoding, 'backslashreplace').decode(encoding)
