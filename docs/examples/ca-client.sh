#!/bin/sh
# A CA's client of the master in sh and psql. The address and the login come from
# libpq's variables: PGHOST, PGDATABASE, PGUSER, PGPASSFILE, PGSSLMODE, or DSN.
#
#   ca-client.sh register ISSUER SERIAL NOTAFTER [WHY]   before the certificate is signed
#   ca-client.sh revoke   ISSUER SERIAL REASON   [WHY]   REASON: 1, 3, 4, 5, 9; 0: none
#   ca-client.sh status   ISSUER SERIAL
#
# ISSUER is its name at the master, SERIAL hexadecimal as openssl prints it.
# Exit codes: 0 done, 1 refused (do not try again), 2 usage, 4 the master is away.
set -u

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -ge 3 ] || usage
verb=$1 issuer=$2

# The content octets of the DER INTEGER: minimal, 00 before a first octet of 80 or more.
serial=$(printf %s "$3" | tr -d : | tr A-F a-f | sed 's/^0*//')
case $serial in *[!0-9a-f]*) echo "serial $3: want hexadecimal digits" >&2; exit 2 ;; esac
[ $((${#serial} % 2)) -eq 0 ] || serial=0$serial
case $serial in '') serial=00 ;; [89a-f]*) serial=00$serial ;; esac

# Values travel as variables, quoted by psql, never pasted into the statement.
case $verb in
register)
	[ $# -ge 4 ] || usage
	sql="select case when certificate_issue((select id from issuer where name = :'issuer'), decode(:'serial', 'hex'),
	  :'argument'::timestamptz, :'why', :'user') then 'registered' else 'was registered' end" ;;
revoke)
	[ $# -ge 4 ] || usage
	sql="select case when changed then 'revoked at ' else 'was revoked at ' end || revoked_at from certificate_revoke(
	  (select id from issuer where name = :'issuer'), decode(:'serial', 'hex'), nullif(:'argument', '0')::smallint, null, :'why', :'user')" ;;
status)
	sql="select case when not exists (select from issuer where name = :'issuer') then 'no such issuer' else coalesce((select coalesce('revoked at ' || revoked_at, 'good') from certificate
	  where issuer_id = (select id from issuer where name = :'issuer') and serial = decode(:'serial', 'hex')), 'never issued') end" ;;
*) usage ;;
esac

# One statement, one transaction, READ COMMITTED. All calls are idempotent, so
# what was cut off is simply done again.
for pause in 0 1 2 5; do
	sleep "$pause"
	said=$(printf '%s;\n' "$sql" | PGTZ=UTC PGCONNECT_TIMEOUT=5 psql ${DSN:+"$DSN"} -X -q -A -t -v ON_ERROR_STOP=1 -v VERBOSITY=verbose \
		-v issuer="$issuer" -v serial="$serial" -v argument="${4-}" -v why="${5-}" -v user="$(id -un)" 2>&1)
	code=$?
	if [ $code -eq 0 ]; then
		printf '%s\n' "$said"
		exit 0
	fi
	case $(printf '%s\n' "$said" | sed -n 's/.*ERROR:  \([0-9A-Z]\{5\}\): .*/\1/p') in
	40001 | 40P01 | 55P03 | 57P0? | 08???) ;;      # again
	'') [ $code -eq 2 ] || break ;;                # psql: 2 is a connection that went bad
	*) break ;;                                    # refused: again would be refused again
	esac
done
printf '%s\n' "$said" >&2
[ $code -eq 2 ] && exit 4
exit 1
