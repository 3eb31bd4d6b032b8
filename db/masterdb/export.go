package masterdb

import (
	"context"
	"fmt"
	"io"
	"strings"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
)

// ExportForm is how an export is written.
type ExportForm string

// The forms of an export: the same fields, in CSV with their names in the first
// line, or as one JSON object a line.
const (
	ExportCSV    ExportForm = "csv"
	ExportNDJSON ExportForm = "ndjson"
)

const exportTime = `to_char(%s at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`

// Export writes all certificates of an issuer by serial and returns their number. The server
// streams them, from one snapshot; the memory here does not grow with them.
func (s *DB) Export(ctx context.Context, issuer db.IssuerID, form ExportForm, w io.Writer) (int64, error) {
	var reason strings.Builder
	reason.WriteString("case reason")
	for r := db.ReasonKeyCompromise; r <= db.ReasonAACompromise; r++ {
		if name := r.String(); name != "" {
			fmt.Fprintf(&reason, " when %d then '%s'", r, name)
		}
	}
	reason.WriteString(" end")
	stamp := func(column string) string { return fmt.Sprintf(exportTime, column) }
	query := fmt.Sprintf(`select i.name as issuer, encode(c.serial, 'hex') as serial, %s as not_after,
		case when c.revoked_at is null then 'good' else 'revoked' end as status, %s as revoked_at, %s as reason
		from certificate c join issuer i on i.id = c.issuer_id where c.issuer_id = %d order by c.serial`,
		stamp("c.not_after"), stamp("c.revoked_at"), reason.String(), issuer)
	options := "format csv, header"
	switch form {
	case ExportCSV:
	case ExportNDJSON:
		// Characters that no such row has: so COPY does not change the JSON.
		query, options = "select row_to_json(t) from ("+query+") t", `format csv, delimiter E'\x01', quote E'\x02'`
	default:
		return 0, fmt.Errorf("exporting as %q: want csv or ndjson", form)
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("exporting issuer %d: %w", issuer, pg.Plain(err))
	}
	defer conn.Release()
	done, err := conn.Conn().PgConn().CopyTo(ctx, w, "copy ("+query+") to stdout ("+options+")")
	if err != nil {
		return 0, fmt.Errorf("exporting issuer %d: %w", issuer, pg.Plain(err))
	}
	return done.RowsAffected(), nil
}
