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

# need PACKAGES...: install those that are not, on Debian.
need()
{
    missing=
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
            grep -q ' installed$' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # one word per package
    apt_install $missing
}

# apt_source FOLDER PACKAGE SOURCES: a source package of Debian in
# FOLDER/download, from lines "URL SUITE COMPONENT". apt has lists of its own in
# FOLDER, so that the machine's are neither changed nor needed to have deb-src
# lines; what it says is in FOLDER/log.
apt_source()
{
    mkdir -p "$1/lists/partial" "$1/archives/partial" "$1/parts" \
        "$1/download" || return
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    printf '%s\n' "$3" | sed "s#^#deb-src [signed-by=$keys] #" \
        > "$1/sources.list" || return
    : > "$1/status"
    (
        folder=$1 package=$2
        set -- -o Dir::Etc::SourceList="$folder/sources.list" \
            -o Dir::Etc::SourceParts="$folder/parts" \
            -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder" \
            -o Dir::State::status="$folder/status" -o APT::Sandbox::User=root \
            -o Acquire::Retries=1 -o Acquire::Languages=none \
            -o APT::Update::Error-Mode=any
        cd "$folder/download" && apt-get "$@" -qq update &&
            apt-get "$@" -qq source --download-only "$package"
    ) > "$1/log" 2>&1
}

# make_environment PYTHON FOLDER REQUIREMENTS: a virtual environment with these
# packages, of PyPI; once, until their list changes.
make_environment()
{
    wanted=$(sha256_of "$3")
    [ "$(cat "$2/requirements.sha256" 2>/dev/null)" != "$wanted" ] || return 0
    say "installing the packages of $3 into $2"
    rm -rf "$2"
    mkdir -p "${2%/*}" || die "cannot make ${2%/*}"
    log=$2.log
    "$1" -m venv "$2" > "$log" 2>&1 ||
        die "cannot make a virtual environment, see $log"
    "$2/bin/python" -m pip install --disable-pip-version-check \
        --only-binary :all: -r "$3" >> "$log" 2>&1 ||
        die "pip could not install the packages of $3 (is PyPI within" \
            "reach?), see $log"
    printf '%s\n' "$wanted" > "$2/requirements.sha256"
}

# set_epoch TOP: SOURCE_DATE_EPOCH is the time of the commit; in a release's
# archive every file has it.
set_epoch()
{
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(
        git -C "$1" log -1 --pretty=%ct 2>/dev/null ||
            stat -c %Y "$1/configure.ac")}
    export SOURCE_DATE_EPOCH
}

# copy_source TOP TARGET: what git has of TOP, as it is there now.
copy_source()
{
    git -C "$1" rev-parse --git-dir >/dev/null 2>&1 ||
        die "$1 is no git repository, which this needs"
    (cd "$1" && git ls-files -z | tar --null -T - -cf -) | tar -C "$2" -xf -
}

# pack FOLDER NAME: a tar file of FOLDER/NAME that depends on its content alone.
pack()
{
    tar -C "$1" --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=0 --group=0 --numeric-owner --mode=u+rwX,go+rX,go-w -cf - "$2"
}

# date_build BUILD MAKE...: build, with the time of the source as that which the
# interpreter tells. MAKE is the command for targets of CPython's own make.
date_build()
{
    rm -f "$1/obj/Modules/getbuildinfo.o"
    shift
    "$@" all
}

# stage BUILD PREFIX FOLDER SYMBOLS [PLACE]: the installation in FOLDER as it is
# packed: it runs wherever it lies, or in PLACE if that is named, and its
# debugging information is in SYMBOLS, where gdb looks. `here` is a folder of
# Tools.
stage()
{
    staged=$3.stage
    rm -rf "$staged"
    # Without most of what is removed below: tests, and byte code.
    "$here/../install" "$1" "$staged" "$2" TEST_MODULES=no COMPILEALL_OPTS=-l
    mv "$staged$2" "$3"
    rm -rf "$staged"
    [ -z "$(find "$3/lib" -name 'libpython*.so*')" ] || die "a shared" \
        "libpython is not packed; configure without --enable-shared"
    say "preparing $3 to be packed"
    "$1/obj/python" -B "$here/../tarball/relocate.py" "$3" "$2" "$1" ${5+"$5"}
    log=$1/trim.log
    "$here/../image/trim" "$3" "$4" > "$log" ||
        die "$3 could not be trimmed, see $log"
}

# split_debug FOLDER TARGET: copy the debugging information of the programs and
# modules, by build id, where gdb looks.
split_debug()
{
    find "$1" -type f \( -name '*.so' -o -path '*/bin/*' \) | sort |
    while read -r file; do
        id=$(readelf -n "$file" 2>/dev/null | sed -n 's/.*Build ID: //p')
        [ -n "$id" ] || continue
        rest=${id#??}
        place=$2/.build-id/${id%"$rest"}
        mkdir -p "$place"
        objcopy --only-keep-debug --compress-debug-sections "$file" \
            "$place/$rest.debug" || die "objcopy cannot read $file"
    done
}

# debian_sources [RELEASE]: "URL SUITE COMPONENT" of a release with updates and
# security fixes, this machine's or another, from where apt has this machine's.
debian_sources()
{
    runs=$(. /etc/os-release && echo "$VERSION_CODENAME")
    apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | awk -v runs="$runs" -v wanted="${1:-$runs}" '
            $2 ~ "^" runs "(-updates|-security)?$" && $3 == "main" {
                sub("^" runs, wanted, $2)
                print }' | sort -u | grep . ||
        die "apt has no sources of Debian $runs here; add them to those of apt"
}

# make_debian TARGET [OPTION...]: a minimal Debian of this machine's release, or
# of DEBIAN_RELEASE.
make_debian()
{
    target=$1
    shift
    need mmdebstrap
    suite=${DEBIAN_RELEASE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
    sources=$(debian_sources "$suite" | sed 's/^/deb /')
    say "making a minimal Debian $suite"
    mode=unshare
    [ "$(id -u)" != 0 ] || mode=root
    printf '%s\n' "$sources" | mmdebstrap --quiet --variant=minbase \
        --mode=$mode "$@" "$suite" "$target" - ||
        die "mmdebstrap failed, see above"
}

# make_bare FOLDER: a minimal Debian, once; for chroot, as root.
make_bare()
{
    [ "$(id -u)" = 0 ] || die "chroot needs root; run this as root"
    on_debian || die "a minimal Debian can be made on Debian alone"
    [ ! -d "$1" ] || return 0
    rm -rf "$1.new"
    mkdir -p "$1.new"
    make_debian "$1.new"
    mv "$1.new" "$1"
}
