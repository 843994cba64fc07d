"""Completion scripts for shells, made from the parsers themselves.

No library makes them.  shtab 1.13 could make them from the same parsers at
build time, but in bash its script completed neither names of files nor values
of options such as --what=garb, although the parsers declare both.  argcomplete
starts Python each time that Tab is pressed.
"""

import argparse

from pytracemalloc.measures import KEYS, MEASURES
from pytracemalloc.reporters import ALL_FORMATS

_VALUES = {'--by': (*KEYS, 'holder'), '--what': (*MEASURES, 'retained'),
           '--format': ALL_FORMATS}
_GENERAL = ('--help', '--version')        # options before the command


def script_for(shell, parser):
    """Return the script for 'bash', 'zsh' or 'fish'."""
    return {'bash': _bash, 'zsh': _zsh, 'fish': _fish}[shell](
        _commands(parser))


def _commands(parser):
    """Return {command: (help, [(flags, help, values)])}.

    values: None for a flag, () for any file, else the words to offer.
    """
    action = next(action for action in parser._actions
                  if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in action._choices_actions}
    return {name: (helps[name], list(_options(sub)))
            for name, sub in action.choices.items()}


def _options(parser):
    for action in parser._actions:
        values = None if action.nargs == 0 else ()
        for flag in action.option_strings:
            values = _VALUES.get(flag, values)
        if not action.option_strings:
            if not action.choices:
                continue
            values = tuple(action.choices)
        text = (action.help or '').split(' (default')[0]
        yield action.option_strings, text.replace('%%', '%'), values


def _bash(commands):
    cases = ''
    for name, (_, options) in commands.items():
        flags = ' '.join(flag for flags, _, _ in options for flag in flags)
        words = ' '.join(word for flags, _, values in options if not flags
                         for word in values)
        cases += f"""
    {name}) case $word in
        -*) words="{flags}" ;;
        *) words="{words}" ;;
        esac ;;"""
    values = '\n'.join(f'    {flag}) words="{" ".join(words)}" ;;'
                       for flag, words in _VALUES.items())
    return f'''\
# bash completion for pytracemalloc
_pytracemalloc()
{{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local words="" command=${{COMP_WORDS[1]}}
    # --option=value comes as three words.
    if [ "$word" = = ]; then
        word=
    elif [ "$before" = = ]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    [ "$COMP_CWORD" -gt 1 ] || command=
    case $before in
{values}
    *) case $command in
    "") words="{' '.join((*commands, *_GENERAL))}" ;;{cases}
    esac ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    if [ -z "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        compopt -o filenames 2>/dev/null
    fi
}}
complete -F _pytracemalloc pytracemalloc
'''


def _zsh(commands):
    names = '\n'.join(f'        {_quote(f"{name}:{text}")}'
                      for name, (text, _) in commands.items())
    cases = '\n'.join(
        f'    {name})\n        _arguments \\\n{_zsh_options(options)}'
        f"            '*:file:_files' ;;"
        for name, (_, options) in commands.items())
    return f'''\
#compdef pytracemalloc
_pytracemalloc()
{{
    local -a commands
    if (( CURRENT == 2 )); then
        if [[ $PREFIX = -* ]]; then
            compadd -- {' '.join(_GENERAL)}
            return
        fi
        commands=(
{names}
        )
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
if [ "$funcstack[1]" = "_pytracemalloc" ]; then
    _pytracemalloc "$@"
else
    compdef _pytracemalloc pytracemalloc
fi
'''


def _zsh_options(options):
    lines = ''
    for flags, text, values in options:
        text = text.translate(str.maketrans({'[': r'\[', ']': r'\]',
                                             ':': r'\:'}))
        if not flags:
            words = _quote(f'1:word:({" ".join(values)})')
            lines += f'            {words} \\\n'
        for flag in flags:
            spec = f'*{flag}[{text}]'
            if values is not None:
                # The value may follow in the same word.
                sign = '=' if flag.startswith('--') else '+'
                action = f'({" ".join(values)})' if values else '_files'
                spec = f'*{flag}{sign}[{text}]:value:{action}'
            lines += f'            {_quote(spec)} \\\n'
    return lines


def _fish(commands):
    lines = ['# fish completion for pytracemalloc']
    for flag in _GENERAL:
        lines.append(f'complete -c pytracemalloc -n __fish_use_subcommand '
                     f'-l {flag[2:]}')
    for name, (text, options) in commands.items():
        lines.append(f'complete -c pytracemalloc -n __fish_use_subcommand '
                     f'-f -a {name} -d {_quote(text)}')
        for flags, text, values in options:
            line = (f'complete -c pytracemalloc -n '
                    f"'__fish_seen_subcommand_from {name}'")
            for flag in flags:
                line += (f' -l {flag[2:]}' if flag.startswith('--')
                         else f' -s {flag[1:]}')
            if values:
                line += f' -x -a {_quote(" ".join(values))}' if flags else \
                    f' -f -a {_quote(" ".join(values))}'
            elif values is not None:
                line += ' -r'
            lines.append(f'{line} -d {_quote(text)}' if text else line)
    return '\n'.join(lines) + '\n'


def _quote(text):
    return "'" + text.replace("'", "'\\''") + "'"
