#!/bin/sh
# Entry point of the stand-in images: `$1` is the product, the rest are server options. Understands those variables of
# the official images that compose.yaml and the harness use.
set -eu

product=$1
shift
case ${1:-} in mysqld | mariadbd | postgres) shift ;; esac

root_accounts() {
  echo "SET SESSION sql_log_bin=0;"
  echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$1';"
  echo "CREATE USER 'root'@'$2' IDENTIFIED BY '$1';"
  echo "GRANT ALL PRIVILEGES ON *.* TO 'root'@'$2' WITH GRANT OPTION;"
}

start_mysql() {
  data=/var/lib/mysql
  set -- --no-defaults "$@" --user=root --datadir=$data --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mysqld.pid
  mkdir -p /run/mysqld /var/lib/mysql-files
  if [ ! -d $data/mysql ]; then
    mkdir -p /var/lib
    root_accounts "$MYSQL_ROOT_PASSWORD" "${MYSQL_ROOT_HOST:-%}" >/tmp/accounts.sql
    mysqld "$@" --initialize-insecure --init-file=/tmp/accounts.sql
  fi
  exec mysqld "$@"
}

start_mariadb() {
  data=/var/lib/mysql
  set -- --no-defaults "$@" --user=root --datadir=$data --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mysqld.pid
  mkdir -p /run/mysqld
  if [ ! -d $data/mysql ]; then
    mkdir -p $data
    for share in /usr/share/mysql /usr/share/mariadb; do
      for prefix in mysql mariadb; do
        if [ -e $share/${prefix}_system_tables.sql ]; then
          sql="$share/${prefix}_system_tables.sql $share/${prefix}_performance_tables.sql"
          sql="$sql $share/${prefix}_system_tables_data.sql $share/maria_add_gis_sp_bootstrap.sql"
          sql="$sql $share/${prefix}_sys_schema.sql"
        fi
      done
    done
    {
      printf 'CREATE DATABASE mysql;\nUSE mysql;\n'
      cat $sql
      echo "FLUSH PRIVILEGES;"
      root_accounts "$MARIADB_ROOT_PASSWORD" "${MARIADB_ROOT_HOST:-%}"
    } | mariadbd "$@" --skip-log-bin --bootstrap
  fi
  exec mariadbd "$@"
}

start_postgres() {
  data=/var/lib/postgresql/data
  mkdir -p $data /run/postgresql
  chown postgres:postgres $data /run/postgresql
  as_postgres() { su -s /bin/sh postgres -c 'exec "$0" "$@"' -- "$@"; }
  if [ ! -e $data/PG_VERSION ]; then
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    as_postgres initdb -U "${POSTGRES_USER:-postgres}" --pwfile=/tmp/password -A scram-sha-256 -E UTF8 --locale=C.UTF-8 \
      -D $data >/dev/null
    printf 'host all all all scram-sha-256\nhost replication all all scram-sha-256\n' >>$data/pg_hba.conf
  fi
  exec su -s /bin/sh postgres -c 'exec "$0" "$@"' -- postgres -D $data -k /run/postgresql -c 'listen_addresses=*' "$@"
}

"start_$product" "$@"
