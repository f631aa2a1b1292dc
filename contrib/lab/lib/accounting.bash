# SPDX-License-Identifier: GPL-2.0-or-later
# Slurm's accounting, for `up --accounting`: a database of the lab's own and
# slurmdbd, both on ctl and as user slurm. The database is reached through its
# socket alone, which only that user can open; so it asks for no password.

ACCOUNTING_SQL=/usr/share/mysql/mysql_system_tables.sql
ACCOUNTING_DATA=/var/lib/slurm/mariadb
ACCOUNTING_SOCKET=/run/mysqld/mysqld.sock      # where libmariadb looks for "localhost"

accounting_daemons() { [ "${LAB_ACCOUNTING:-no}" != yes ] || printf '%s\n' mariadbd slurmdbd; }

accounting_check() {
    [ -r "$ACCOUNTING_SQL" ] && [ -x /usr/sbin/mariadbd ] && [ -x /usr/sbin/slurmdbd ] ||
        die "--accounting needs the packages mariadb-server-core and slurmdbd"
}

as_slurm() { setpriv --reuid=slurm --regid=slurm --init-groups "$@"; }

# in ctl, before its daemons start: an empty database
accounting_prepare() {
    [ "${LAB_ACCOUNTING:-no}" = yes ] || return 0
    install -d -m 700 -o slurm -g slurm "$ACCOUNTING_DATA" "${ACCOUNTING_SOCKET%/*}"
    [ ! -d "$ACCOUNTING_DATA/mysql" ] || return 0
    { printf 'CREATE DATABASE mysql;\nUSE mysql;\n'; cat "$ACCOUNTING_SQL"; } |
        as_slurm mariadbd --no-defaults --bootstrap --datadir="$ACCOUNTING_DATA" --innodb-log-file-size=8M \
            >/var/log/vclab/mariadbd.log 2>&1
}

accounting_command() {
    case $1 in
        mariadbd) echo mariadbd --no-defaults --datadir="$ACCOUNTING_DATA" --socket="$ACCOUNTING_SOCKET" \
            --pid-file="$ACCOUNTING_DATA/pid" --skip-networking --skip-grant-tables --innodb-log-file-size=8M \
            --innodb-buffer-pool-size=16M --innodb-flush-log-at-trx-commit=0 ;;
        slurmdbd) echo /usr/sbin/slurmdbd -D ;;
    esac
}

# slurmdbd wants its file to be its own user's and nobody else's
config_accounting() {
    [ "$LAB_ACCOUNTING" = yes ] || return 0
    cat >"$1/slurmdbd.conf" <<'CONF'
AuthType=auth/munge
DbdHost=ctl
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
CONF
    chown slurm:slurm "$1/slurmdbd.conf"
    chmod 600 "$1/slurmdbd.conf"
}

config_slurm_accounting() {
    [ "${LAB_ACCOUNTING:-no}" = yes ] || return 0
    printf '%s\n' AccountingStorageType=accounting_storage/slurmdbd AccountingStorageHost=ctl \
        JobAcctGatherType=jobacct_gather/linux
}
