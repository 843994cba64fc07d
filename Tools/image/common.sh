# Shared by the scripts that make and check the image: which engine, and how.
# Source ../common.sh first. `top` is the repository.
platform=

# engine_of NAMES...: the first of these engines that works here.
engine_of()
{
    for name; do
        case $name in
        docker) docker info >/dev/null 2>&1 || continue ;;
        *)      command -v "$name" >/dev/null 2>&1 || continue ;;
        esac
        printf '%s\n' "$name"
        return 0
    done
    return 1
}

# Options with which buildah and podman build on restricted machines: an
# isolation in which RUN needs no runtime, and limits that can be set here.
# These are at most the limits of this process. The engines' defaults for each
# step are higher, and not every machine lets root raise a limit.
build_options()
{
    echo --isolation=chroot
    awk -v most=32768 '/^Max (processes|open files)/ {
        name = $2 == "open" ? "nofile" : "nproc"
        limit = $(NF - 1) ~ /^[0-9]+$/ && $(NF - 1) < most ? $(NF - 1) : most
        print "--ulimit=" name "=" limit ":" limit }' /proc/self/limits
}

# choose_engine NAMES...: `engine` is the first that works here; on Debian, one
# is installed if there is none.
choose_engine()
{
    engine=${IMAGE_ENGINE:-$(engine_of "$@")} || {
        on_debian || die "neither docker, podman nor buildah is here; install" \
            "one of them, then try again"
        need buildah podman runc
        engine=buildah
    }
}

# engine_build ARGUMENTS...: an image whose times are all SOURCE_DATE_EPOCH, of
# this machine's kind, or with buildah and podman of `platform`, linux/arm64.
engine_build()
{
    case $engine in
    docker)
        docker build --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$@" ;;
    *)  # The usual filter of system calls forbids the training to fix its
        # addresses.
        # shellcheck disable=SC2046  # one word per option
        "$engine" build $(build_options) --layers \
            ${platform:+--platform "$platform"} \
            --security-opt seccomp=unconfined \
            --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
            --timestamp "$SOURCE_DATE_EPOCH" "$@" ;;
    esac
}

# `base` is a Debian slim of the sources of this machine's apt, made in `work`
# and named by its content.
make_base()
{
    on_debian || die "no base image can be made here; name one that the" \
        "engine has or can pull: IMAGE_BASE=debian:bookworm-slim"
    make_debian "$work/rootfs.tar" \
        ${platform:+--architectures="${platform#linux/}"} \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook=': > "$1/etc/resolv.conf"' \
        --customize-hook='echo localhost > "$1/etc/hostname"' \
        --customize-hook='chmod 644 "$1/etc/resolv.conf" "$1/etc/hostname"'
    base=localhost/debian-slim:$suite-$(sha256_of "$work/rootfs.tar" | cut -c1-12)
    printf 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n' > "$work/Dockerfile"
    engine_build --quiet -t "$base" "$work" >/dev/null ||
        die "$engine cannot import the base"
    rm -f "$work/rootfs.tar" "$work/Dockerfile"
}

# Where this clone is from, if that is on the web, and its commit.
source_labels()
{
    [ -e "$top/.git" ] && command -v git >/dev/null || return 0
    # Without a password.
    url=$(git -C "$top" config remote.origin.url |
        sed -n 's#^\(https*://\)\([^/]*@\)\{0,1\}#\1#p') || :
    [ -z "$url" ] || printf '%s\n' "--build-arg=SOURCE=$url"
    revision=$(git -C "$top" describe --always --abbrev=40 --dirty --match=-)
    printf '%s\n' "--build-arg=REVISION=$revision"
}

# build_image NAME LOG ARGUMENTS...: by the Dockerfile, on `base`, with the
# release `python_version` of CPython.
build_image()
{
    name=$1
    log=$2
    shift 2
    say "building $name on $base with $engine"
    # shellcheck disable=SC2046,SC2086  # lists of words
    engine_build -t "$name" --build-arg BASE="$base" \
        --build-arg FREELISTS="$PYTRACEMALLOC_FREELISTS" \
        --build-arg PYTHON_VERSION="$python_version" \
        $(source_labels) ${IMAGE_OPTIONS-} "$@" > "$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "the image could not be built, see $log"
    }
}
