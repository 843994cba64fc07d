"""pytracemalloc completion: print what a shell needs to complete commands."""

HELP = 'print the completion script of bash, zsh or fish'
DESCRIPTION = 'Print a script that makes a shell complete pytracemalloc.'
EPILOG = """\
examples:
  eval "$(pytracemalloc completion bash)"          in ~/.bashrc
  pytracemalloc completion zsh > ~/.zfunc/_pytracemalloc
  pytracemalloc completion fish > ~/.config/fish/completions/pytracemalloc.fish
"""


def add_arguments(parser):
    parser.add_argument('shell', choices=('bash', 'zsh', 'fish'))


def run(args):
    from pytracemalloc.cli import make_parser
    from pytracemalloc.completion import script_for
    print(script_for(args.shell, make_parser()), end='')
