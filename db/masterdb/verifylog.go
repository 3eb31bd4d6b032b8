package masterdb

import (
	"context"
	"fmt"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"

	"github.com/jackc/pgx/v5"
)

// LogFault is a replicated row of the master that differs from the last change of its key in the
// log of changes.
type LogFault struct {
	Table string
	Key   []byte // the first part of the row's canonical bytes
	Why   string
}

// logFaults is how many faults are reported of a table; one is enough to look for the others.
const logFaults = 20

// keySQL is the part of a row's canonical bytes x that names the row.
var keySQL = map[byte]string{
	db.CertificateTable: "substring(x for 6 + 256 * get_byte(x, 4) + get_byte(x, 5))",
	db.CorrectionTable:  "x",
	'i':                 "substring(x for 4)",
	'r':                 "substring(x for 32)",
	'p':                 "x",
}

// VerifyLog compares the replicated rows of the master with the last change of each key: a forged
// set of rows with the right sums can be found in seconds. It reads the whole log of changes.
func (s *DB) VerifyLog(ctx context.Context) ([]LogFault, error) {
	var faults []LogFault
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for _, t := range db.FeedTables {
			rows, err := tx.Query(ctx, fmt.Sprintf(`
				with entry as (select %[1]s as key, position, deleted, content from (select position, deleted, content, content as x from change where table_name = $1) c),
				last as (select distinct on (key) key, deleted, content from entry order by key, position desc),
				live as (select %[1]s as key, x as content from (select %[2]s as x from %[3]s t) r)
				select $1, key, case
				    when live.content is null then 'the row is gone, and no change says so'
				    when last.deleted is null then 'the row came without a change'
				    when last.deleted then 'the row is there, though the last change took it away'
				    else 'the row is not what the last change says' end
				  from last full join live using (key)
				  where live.content is distinct from case when not last.deleted then last.content end limit $2`,
				keySQL[t.Code], t.Rows, t.Name), t.Name, logFaults)
			if err != nil {
				return err
			}
			found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LogFault])
			if err != nil {
				return err
			}
			faults = append(faults, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing the rows with the log of changes: %w", pg.Plain(err))
	}
	return faults, nil
}
