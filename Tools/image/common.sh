# Shared by the scripts that make and check the image: which engine, and how.
# Source ../common.sh first.

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
