# Read by Tools/variant: build for arm64, below `build`, on another processor.
#
# Debian's compiler for arm64 does the work. What it has compiled runs by an
# emulator, which the kernel starts and which finds the libraries in BUILD/root.
# So CPython is configured as on a machine of that kind, where the programs that
# the build runs, and configure's, are its own.
QEMU_LD_PREFIX=$(CDPATH= cd -- "$build" && pwd)/root
PKG_CONFIG_SYSROOT_DIR=$QEMU_LD_PREFIX
PKG_CONFIG_LIBDIR=$QEMU_LD_PREFIX/usr/lib/aarch64-linux-gnu/pkgconfig
PKG_CONFIG_LIBDIR=$PKG_CONFIG_LIBDIR:$QEMU_LD_PREFIX/usr/share/pkgconfig
CC="aarch64-linux-gnu-gcc --sysroot=$QEMU_LD_PREFIX"
AR=aarch64-linux-gnu-ar
READELF=aarch64-linux-gnu-readelf
export QEMU_LD_PREFIX PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR CC AR READELF
