# Shared by the shell scripts of this directory, which source it.
#
# The scripts run before there is a Python, so they are plain POSIX shell.
# Each keeps to the same rules: work in a new name, rename when it is whole,
# and fail with one line that says what, where and what to do.

LC_ALL=C
export LC_ALL

say()
{
    printf 'pytracemalloc: %s\n' "$*"
}

die()
{
    printf 'pytracemalloc: error: %s\n' "$*" >&2
    exit 1
}

sha256_of()
{
    sha256sum -- "$1" | cut -d' ' -f1
}

# write_if_changed FILE: standard input becomes FILE, whose time stamp moves
# only when the content does.
write_if_changed()
{
    cat > "$1.new" || die "cannot write $1 (is the disk full?)"
    if cmp -s "$1.new" "$1"; then
        rm -f "$1.new"
    else
        mv -f "$1.new" "$1"
    fi
}

# locked_versions LOCK: the lines "version sha256" without the comments.
locked_versions()
{
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"
}
