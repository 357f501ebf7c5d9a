#!/bin/sh
# Builds stand-ins for official images that cannot be pulled, from the packages of Debian and Ubuntu that the harness has
# unpacked, and tags them with the names in compose.yaml. Their entry points obey the same environment variables, so the
# same test run goes through containers:
#
#   tests/support/images/build.sh mysql-9.7 mariadb-10.11        # default: every server of compose.yaml
#   CHANGELING_SERVERS=container cargo test
#
# They are for tests on this machine only. An image that is present is not replaced unless FORCE=1.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${XDG_CACHE_HOME:-}" ]; then cache=$XDG_CACHE_HOME/changeling
elif [ "$(id -u)" = 0 ]; then cache=/var/cache/changeling
else cache=$HOME/.cache/changeling; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The shell of the entry points, and the few commands they use: one static program.
fetch_busybox() {
  [ -x "$cache/images/busybox" ] && return
  mkdir -p "$cache/images" "$work/apt/lists/partial" "$work/apt/archives/partial"
  set -- -qq -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt" -o APT::Sandbox::User= -o Debug::NoLocking=1
  apt-get "$@" update
  (cd "$work/apt" && apt-get "$@" download busybox-static)
  dpkg-deb -x "$work"/apt/busybox-static_*.deb "$work/busybox"
  install -m 755 "$(find "$work/busybox" -path "*bin/busybox")" "$cache/images/busybox"
}

build() {
  service=$1
  image=$(awk -v header="  $service:" '$0 == header { found = 1 } found && /^    image: / { print $2; exit }' "$here/../compose.yaml")
  [ -n "$image" ] || { echo "compose.yaml has no service $service" >&2; exit 1; }
  if [ -z "${FORCE:-}" ] && docker image inspect "$image" >/dev/null 2>&1; then
    echo "$image is present"
    return
  fi
  set -- "$cache/packages/$service"-*-"$(uname -m)"
  if [ ! -e "$1/changeling-version" ]; then
    (cd "$here" && CHANGELING_SERVERS=packages cargo run --quiet -p changeling-support --example server -- "$service" --once)
    set -- "$cache/packages/$service"-*-"$(uname -m)"
  fi
  [ -e "$1/changeling-version" ] || { echo "neither Debian nor Ubuntu packages $service" >&2; exit 1; }

  context=$work/$service
  mkdir -p "$context/extra/bin" "$context/extra/tmp" "$context/extra/run" "$context/extra/etc"
  chmod 755 "$context/extra"
  chmod 1777 "$context/extra/tmp"
  cp "$cache/images/busybox" "$context/extra/bin/"
  for command in sh cat chown mkdir su test; do ln -s busybox "$context/extra/bin/$command"; done
  cp "$here/entrypoint.sh" "$context/extra/"
  printf 'root:x:0:0:root:/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n' >"$context/extra/etc/passwd"
  printf 'root:x:0:\npostgres:x:999:\n' >"$context/extra/etc/group"
  # A merged system links these; an unpacked root of Debian 13 has only the targets.
  for link in lib lib64; do
    [ -e "$1/$link" ] || [ ! -e "$1/usr/$link" ] || ln -s "usr/$link" "$context/extra/$link"
  done
  tar -C "$1" --exclude=./etc -cf "$context/root.tar" .
  tar -C "$context/extra" --owner=0 --group=0 -cf "$context/extra.tar" .
  rm -rf "$context/extra"
  case $service in
    postgres-*) signal=SIGINT port=5432 ;;
    *) signal=SIGTERM port=3306 ;;
  esac
  cat >"$context/Dockerfile" <<DOCKERFILE
FROM scratch
ADD root.tar /
ADD extra.tar /
LABEL changeling.stand-in="$service"
ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/${service#postgres-}/bin
EXPOSE $port
STOPSIGNAL $signal
ENTRYPOINT ["/bin/sh", "/entrypoint.sh", "${service%-*}"]
DOCKERFILE
  DOCKER_BUILDKIT=0 docker build --quiet --tag "$image" "$context" >/dev/null 2>"$work/said" || { cat "$work/said" >&2; exit 1; }
  rm -rf "$context"
  echo "built $image from $(cat "$1/changeling-version")"
}

[ $# -gt 0 ] || set -- mysql-8.0 mysql-8.4 mysql-9.7 mariadb-10.6 mariadb-10.11 mariadb-11.8 \
  postgres-14 postgres-15 postgres-16 postgres-17 postgres-18
fetch_busybox
for service in "$@"; do build "$service"; done
