# A Python whose allocator remembers, in /opt/mypython on Debian slim.
#
#     docker build -t pytracemalloc .
#
# fetches the base, Debian's packages by the base's apt, and CPython's release:
# from python.org or, where that is out of reach, out of Debian's source package.
# Python-3.14.5.tar.xz is not fetched if it is in this directory. `make image`
# does the same where there is no registry to get the base from. With several
# platforms, `docker buildx build --platform linux/amd64,linux/arm64` compiles
# for each on a builder of that kind, or by an emulator; `make image-arm64` puts
# what was compiled elsewhere in place of the stage `build`.
# Doc/howto/container.rst shows the uses.
#
# Arguments:
#   BASE        Debian 12 or 13, or a derivative of them
#   OPTIMIZE    yes: guided by a profile, as a release should be; no: in a
#               fraction of the time, and the same bytes wherever it is built
#   FREELISTS   track, ignore or disable
#   PYTHON_VERSION      CPython's release, one of patches/3.14/upstream.lock or
#               of that of another series
#   SOURCE      the URL that these files come from, for the label; without it
#               the label names the release's archive
#   REVISION    the commit, for the label
#   SOURCE_DATE_EPOCH   seconds, in place of all times in the image
# VERSION is for the label; the build compares it with configure.ac.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
USER root
ARG SOURCE_DATE_EPOCH
# What the packages depend on comes first: an edit elsewhere keeps this layer.
COPY bootstrap configure.ac /source/
COPY Tools/common.sh /source/Tools/
# CPython's generators run under Debian's Python, or a second build would.
RUN apt-get -qq update && \
    apt-get -qq install -y --no-install-recommends python3 >/dev/null && \
    /source/bootstrap
COPY . /source
ARG FREELISTS=track
ARG OPTIMIZE=yes
ARG VERSION=1.0.0
ARG PYTHON_VERSION=3.14.5
RUN /source/Tools/image/compile

FROM ${BASE}
USER root
ARG SOURCE_DATE_EPOCH
COPY --from=build /opt/mypython /opt/mypython
RUN apt-get -qq update && \
    xargs -a /opt/mypython/share/pytracemalloc/runtime-packages \
        env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends >/dev/null && \
    useradd --create-home --key HOME_MODE=0755 --uid 1000 \
        --shell /bin/bash python && \
    install -d -o python -g python -m 1777 /tracemalloc && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt \
        /var/log/dpkg.log /var/log/alternatives.log \
        /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old
# What pip installs for the user is found as well, under any user number.
ENV PATH=/opt/mypython/bin:/home/python/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUSERBASE=/home/python/.local \
    LANG=C.UTF-8
WORKDIR /home/python
# By number, so that an orchestrator can see that it is not root.
USER 1000:1000
# As process 1 Python does not see SIGTERM unless the program handles it.
# SIGINT ends it in order, and its last snapshot is written.
STOPSIGNAL SIGINT
CMD ["python3"]

ARG BASE
ARG FREELISTS=track
ARG VERSION=1.0.0
ARG PYTHON_VERSION=3.14.5
ARG SOURCE=pytracemalloc-${VERSION}.tar.xz
ARG REVISION
LABEL org.opencontainers.image.title="pytracemalloc" \
    org.opencontainers.image.description="CPython with an exact allocation tracer built in" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.source="${SOURCE}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${BASE}" \
    org.opencontainers.image.licenses="MIT AND PSF-2.0" \
    org.pytracemalloc.python-version="${PYTHON_VERSION}" \
    org.pytracemalloc.freelists="${FREELISTS}"
