# Read by Tools/variant: build for arm64, below `build`, on another processor.
#
# Debian's compiler for arm64 does the work. It goes by the names that programs
# have on a machine of that kind, in BUILD/bin: sysconfig keeps these, for those
# who compile extensions. What it has compiled runs by an emulator, which the
# kernel starts and which finds the libraries in BUILD/root. So CPython is
# configured as on such a machine, where the programs that the build runs, and
# configure's, are its own. It tells the time of the source as that of the build.
build=$(CDPATH= cd -- "$build" && pwd)
QEMU_LD_PREFIX=$build/root
PKG_CONFIG_SYSROOT_DIR=$QEMU_LD_PREFIX
PKG_CONFIG_LIBDIR=$QEMU_LD_PREFIX/usr/lib/aarch64-linux-gnu/pkgconfig
PKG_CONFIG_LIBDIR=$PKG_CONFIG_LIBDIR:$QEMU_LD_PREFIX/usr/share/pkgconfig
CC=gcc
PATH=$build/bin:$PATH
export QEMU_LD_PREFIX PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR CC PATH

set_epoch "$here/.."
mkdir -p "$build/bin" || die "cannot make $build/bin"
for tool in ar readelf; do
    ln -sf "$(command -v aarch64-linux-gnu-$tool)" "$build/bin/$tool"
done
# What it compiles names the headers as on that machine.
write_if_changed "$build/bin/gcc" <<END
#!/bin/sh
exec aarch64-linux-gnu-gcc --sysroot=$QEMU_LD_PREFIX \\
    -ffile-prefix-map=$QEMU_LD_PREFIX= "\$@"
END
chmod +x "$build/bin/gcc"
