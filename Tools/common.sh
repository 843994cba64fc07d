# Shared by the shell scripts of this directory, which source it.
#
# The scripts run before there is a Python, so they are plain POSIX shell.
# All follow the same rules: write under a temporary name, rename when
# complete, and fail with one line that says what, where and what to do.

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

# patch_path SERIES NAME: the path of a patch that a line of `series` names.
patch_path()
{
    case $2 in
    ../*) printf 'patches/%s' "${2#../}" ;;
    *) printf 'patches/%s/%s' "$1" "$2" ;;
    esac
}

# touched PATCH: the files that it changes, without a/ or b/.
touched()
{
    sed -n 's/^+++ [^/]*\/\([^	]*\).*/\1/p' "$1"
}

# locked_versions LOCK: the lines "version sha256" without the comments.
locked_versions()
{
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$1"
}

on_debian()
{
    [ -f /etc/debian_version ] && command -v apt-get >/dev/null 2>&1
}

# apt_install PACKAGES...: as root, or by sudo; what apt prints is for failures.
apt_install()
{
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            die "not root and no sudo; have root run: apt-get install $*"
        as_root=sudo
    fi
    say "installing: $*"
    log=$(mktemp)
    # A failed update is not an error yet: the present lists may be enough.
    if ! { $as_root apt-get -qq update || :
           $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
               --no-install-recommends "$@"
         } > "$log" 2>&1
    then
        reason=$(grep '^E:' "$log" | tail -n 1)
        rm -f "$log"
        die "apt-get could not install: $* (${reason#E: }); install them," \
            "then try again"
    fi
    rm -f "$log"
}
