package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"ocspfleet/db/tables"
	"ocspfleet/migrations"
)

// Level says how bad a result is.
type Level string

// The levels. A fail stops answers or will cause wrong ones; a warn will become one.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Result is one line of the examination.
type Result struct {
	Check string // the part that was checked: "clock", "token", ...
	Level Level
	Text  string // what was found
	Fix   string // what to do; empty when all is well
}

// results collects the results in the order of the examination.
type results struct{ all []Result }

func (f *results) ok(check, text string, args ...any) {
	f.all = append(f.all, Result{check, OK, fmt.Sprintf(text, args...), ""})
}

func (f *results) warn(check, fix, text string, args ...any) {
	f.all = append(f.all, Result{check, Warn, fmt.Sprintf(text, args...), fix})
}

func (f *results) fail(check, fix, text string, args ...any) {
	f.all = append(f.all, Result{check, Fail, fmt.Sprintf(text, args...), fix})
}

// Well says whether no result is a fail.
func Well(all []Result) bool {
	for _, f := range all {
		if f.Level == Fail {
			return false
		}
	}
	return true
}

// database checks that the database can be reached and has our schema.
func (f *results) database(ctx context.Context, store *tables.DB, role string) bool {
	if err := store.Ping(ctx); err != nil {
		f.fail("database", "start PostgreSQL, and look at database.dsn and password_file", "%v", err)
		return false
	}
	f.ok("database", "answers")
	if err := store.CheckSchema(ctx, role); err != nil {
		f.fail("schema", "ocspctl db migrate --role "+role, "%v", err)
		return false
	}
	f.ok("schema", "is one that this program knows")
	f.shape(ctx, store, migrations.Role(role))
	f.grants(ctx, store, migrations.Role(role))
	return true
}

// shape compares the objects of the schema with those of the migrations.
func (f *results) shape(ctx context.Context, store *tables.DB, role migrations.Role) {
	fix := "ocspctl db migrate --repair --role " + string(role)
	if role == migrations.Master {
		fix += "; then ocspctl db verify and ocspctl audit verify: what was written meanwhile may be in neither"
	}
	live, err := store.Shape(ctx, migrations.ShapeSQL, migrations.FactLine)
	if err != nil {
		f.fail("schema drift", fix, "%v", err)
		return
	}
	drift, foreign := migrations.SchemaDrift(role, live)
	for _, object := range drift {
		f.fail("schema drift", fix, "%s", object)
	}
	for _, object := range foreign {
		f.warn("schema drift", "mind that it can keep rows out, or change them; else drop it", "not ours, on a table of ours: %s", object)
	}
	if len(drift)+len(foreign) == 0 {
		f.ok("schema drift", "there is none: tables, keys, triggers and functions are those of the migrations")
	}
}

// grants compares the rights in the database with the matrix of the migrations. A restored dump
// lacks the database's own rights; a superuser may have granted others.
func (f *results) grants(ctx context.Context, store *tables.DB, role migrations.Role) {
	fix := "ocspctl db migrate --role " + string(role) + " sets them right"
	live, err := store.Rights(ctx)
	if err != nil {
		f.fail("grants", fix, "%v", err)
		return
	}
	extra, missing := migrations.Drift(role, live)
	var foreign []string
	extra = slices.DeleteFunc(extra, func(right string) bool {
		stranger := !migrations.Ours(right)
		if stranger {
			foreign = append(foreign, right)
		}
		return stranger
	})
	if len(extra) > 0 {
		f.fail("grants", fix, "beyond what is meant: %s", strings.Join(extra, "; "))
	}
	if len(missing) > 0 {
		f.fail("grants", fix, "missing: %s", strings.Join(missing, "; "))
	}
	if len(foreign) > 0 {
		f.warn("grants", "revoke them, or mind that these logins know and do as much", "a superuser gave to roles that are not ours: %s", strings.Join(foreign, "; "))
	}
	if len(extra)+len(missing)+len(foreign) == 0 {
		f.ok("grants", "are those of the matrix (docs/security.md), none is PUBLIC's")
	}
}

// rows recounts the replicated tables.
func (f *results) rows(ctx context.Context, store *tables.DB, fix string) {
	counts, err := store.Verify(ctx)
	if err != nil {
		f.fail("rows", fix, "%v", err)
		return
	}
	var unequal []string
	var total int64
	for _, c := range counts {
		total += c.Counted.Count
		if !c.Identical {
			unequal = append(unequal, c.Table)
		}
	}
	if len(unequal) > 0 {
		f.fail("rows", fix, "those of %s are not what the head counts", strings.Join(unequal, ", "))
		return
	}
	f.ok("rows", "%d, as the head counts them", total)
}

// timeError is TIME_ERROR of adjtimex(2): the kernel's clock is not synchronised.
const timeError = 5

// kernelClock asks the kernel whether its clock is synchronised.
func (f *results) kernelClock() {
	var tx syscall.Timex
	switch state, err := syscall.Adjtimex(&tx); {
	case err != nil:
		f.warn("ntp", "see that chrony or systemd-timesyncd runs", "the kernel does not say whether its clock is synchronised: %v", err)
	case state == timeError:
		f.warn("ntp", "apt install chrony (in a container: on its host)", "the kernel says that nothing synchronises its clock")
	default:
		f.ok("ntp", "the kernel's clock is synchronised")
	}
}

// portPatience bounds one request to a port.
const portPatience = 5 * time.Second

// get asks a daemon and returns the status code and the beginning of the body.
func get(ctx context.Context, address, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, portPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+local(address)+path, nil)
	if err != nil {
		return 0, "", err
	}
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // no proxy: the daemon is on this machine
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4096))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, "", err
	}
	return answer.StatusCode, strings.Join(strings.Fields(string(text)), " "), nil
}

// local returns the address of a listener, with loopback as host if it names none.
func local(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// span writes a duration for people, in whole seconds.
func span(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.Truncate(time.Second).String()
}
