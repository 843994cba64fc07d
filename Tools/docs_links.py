"""Check that every link between pages of the HTML documentation leads to
something: a file that exists, and within it an element of that name.

usage: Tools/docs_links.py DIRECTORY

Links to other sites are not followed. Sphinx checks the references that it
makes itself; this sees what is left, such as links written out by hand.
"""
import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """The links of a page, and the names that a link can lead to."""

    def __init__(self, path):
        super().__init__()
        self.links = []                 # (line, target)
        self.names = {''}
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ('href', 'src'):
                self.links.append((self.getpos()[0], value or ''))
            elif name == 'id' or (tag == 'a' and name == 'name'):
                self.names.add(value)


def broken_links(top):
    """Return (number of links looked at, list of complaints)."""
    pages = {path: Page(path) for path in sorted(top.rglob('*.html'))}
    count, complaints = 0, []
    for path, page in pages.items():
        for line, link in page.links:
            url = urllib.parse.urlsplit(link)
            if url.scheme or url.netloc:
                continue
            count += 1
            target = path
            if url.path:
                target = path.parent / urllib.parse.unquote(url.path)
                target = pathlib.Path(target).resolve()
            fragment = urllib.parse.unquote(url.fragment)
            if not target.is_file():
                complaints.append(f'{path}:{line}: {link}: no such file')
            elif target in pages and fragment not in pages[target].names:
                complaints.append(f'{path}:{line}: {link}: no such place')
    return count, complaints


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.split('\n\n')[1])
    count, complaints = broken_links(pathlib.Path(sys.argv[1]).resolve())
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if not count:
        sys.exit(f'{sys.argv[1]}: no page with links; run make docs first')
    print(f'{count} links between pages, {len(complaints)} broken')
    return bool(complaints)


if __name__ == '__main__':
    sys.exit(main())
