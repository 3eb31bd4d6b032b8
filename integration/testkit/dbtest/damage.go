package dbtest

import (
	"os"
	"path/filepath"
	"testing"

	"ocspfleet/integration/testkit/pgserver"
)

// Damage flips an octet of the first page of certificate, of a database on a Cluster,
// while the server is down, as a bad disk does.
func Damage(tb testing.TB, server *pgserver.Server, dsn string) {
	tb.Helper()
	conn := Connect(tb, dsn)
	var path string
	if err := conn.QueryRow(tb.Context(), "select pg_relation_filepath('certificate')").Scan(&path); err != nil {
		tb.Fatal(err)
	}
	Exec(tb, dsn, "checkpoint")
	if err := server.Stop(); err != nil {
		tb.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(server.Dir, "data", path), os.O_RDWR, 0)
	if err != nil {
		tb.Fatal(err)
	}
	octet := make([]byte, 1)
	if _, err := file.ReadAt(octet, 8000); err != nil {
		tb.Fatal(err)
	}
	octet[0] ^= 1
	if _, err := file.WriteAt(octet, 8000); err != nil {
		tb.Fatal(err)
	}
	if err := file.Close(); err != nil {
		tb.Fatal(err)
	}
	if err := server.Restart(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Exec(tb.Context(), "select"); err == nil {
		tb.Fatal("the old connection lives: the server was not stopped")
	}
}
