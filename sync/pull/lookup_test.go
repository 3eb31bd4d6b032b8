package pull_test

import (
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"ocspfleet/db"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/migrations"
	"ocspfleet/sync/feed"
	"ocspfleet/sync/feedhttp"
	"ocspfleet/sync/publish"
	"ocspfleet/sync/pull"

	"golang.org/x/mod/sumdb/note"
)

// askRig is a master that answers lookups, a site that asks it, and what is between them.
type askRig struct {
	*master
	site   *dbtest.Database
	proxy  *pull.LookupProxy
	lookup http.Handler // the master's, counted
	asked  atomic.Int64 // questions that reached the master
	silent atomic.Bool  // the master answers nothing of use
	clock  atomic.Int64 // the site's, seconds from now on
	began  time.Time
}

func newAskRig(t *testing.T) *askRig {
	t.Helper()
	r := &askRig{master: prepare(t), site: open(t, dbtest.New(t, migrations.Site)), began: time.Now()}
	key, caller := feedKey(t), identity(t)
	r.keys.Answers = []feed.FeedKey{{From: r.keys.Keys[0].From, Until: r.keys.Keys[0].Until, Verifier: key.Verifier()}}
	keys, err := r.keys.Sign(r.root)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.site.KeepFeedKeys(t.Context(), 1, keys); err != nil {
		t.Fatal(err)
	}
	lookup := publish.NewLookupServer(publish.LookupServerConfig{Store: r.store.Publisher, Key: key, Keys: r.keys, Log: quiet})
	answers := feedhttp.NewServer(feedhttp.ServerConfig{Store: r.store.DB, Latest: r.latest, Lookup: lookup, Log: quiet})
	r.lookup = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.asked.Add(1)
		if r.silent.Load() {
			_, _ = w.Write([]byte("nothing of use"))
			return
		}
		answers.ServeHTTP(w, q)
	})
	client := serve(t, r.store, r.latest, caller, func(http.Handler) http.Handler { return r.lookup })
	r.proxy = pull.NewLookupProxy(pull.LookupProxyConfig{
		Store: r.site.Site, Origin: origin, Root: rootOf(t, r.master), Sources: []*feedhttp.Client{client}, Log: quiet,
		Now: func() time.Time { return r.began.Add(time.Duration(r.clock.Load()) * time.Second) },
	})
	return r
}

// ask asks as ocspd does, from a copy at a position. An answer that comes late on a
// loaded machine is asked for again, as clients do.
func (r *askRig) ask(t *testing.T, serial db.Serial, position int64) (code int, a *feed.Answer) {
	t.Helper()
	w := httptest.NewRecorder()
	r.proxy.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ask?issuer="+hex.EncodeToString(append([]byte{1}, make([]byte, 31)...))+
		"&serial="+serial.String()+"&position="+strconv.FormatInt(position, 10), nil))
	if w.Code != http.StatusOK {
		return w.Code, nil
	}
	reply, err := feed.ParseSignedAnswer(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	set, err := feed.OpenKeySet(reply.Keys, origin, rootOf(t, r.master))
	if err != nil {
		t.Fatal(err)
	}
	if a, err = set.OpenAnswer(reply.Note); err != nil {
		t.Fatal(err)
	}
	return w.Code, a
}

// answered asks until there is an answer.
func (r *askRig) answered(t *testing.T, serial db.Serial, position int64) *feed.Answer {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); r.clock.Add(2) {
		if _, a := r.ask(t, serial, position); a != nil {
			return a
		}
	}
	t.Fatal("nobody answers")
	return nil
}

func rootOf(t *testing.T, m *master) note.Verifier {
	t.Helper()
	root, err := note.NewVerifier(m.root.Verifier())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func nth(n uint64) db.Serial { return binary.BigEndian.AppendUint64([]byte{0x40}, n) }

func TestLookupProxyBringsWhatWasJustIssued(t *testing.T) {
	t.Parallel()
	r := newAskRig(t)
	serial := nth(1)
	if a := r.answered(t, serial, 0); a.Issued {
		t.Errorf("nothing was issued, it says %+v", a)
	}
	if _, err := r.store.Master.Issue(t.Context(), 1, serial, time.Now().Add(time.Hour), act); err != nil {
		t.Fatal(err)
	}
	before := r.asked.Load()
	if _, a := r.ask(t, serial, 0); a == nil || a.Issued || r.asked.Load() != before {
		t.Errorf("asked again at once, it says %+v, the master was asked %d times more", a, r.asked.Load()-before)
	}
	r.clock.Add(11) // what is remembered ends
	a := r.answered(t, serial, 0)
	if !a.Issued || a.Status.Revoked {
		t.Errorf("it was issued, it says %+v", a)
	}
	before = r.asked.Load()
	if _, again := r.ask(t, serial, a.Position-1); again == nil || r.asked.Load() != before {
		t.Error("a copy that lies behind is not told what is remembered")
	}
	_ = r.answered(t, serial, a.Position)
	if r.asked.Load() == before {
		t.Error("a copy that is as far is told what is remembered")
	}
}

// A flood of serials that nobody issued does not reach the master.
func TestLookupProxyStopsAFlood(t *testing.T) {
	t.Parallel()
	r := newAskRig(t)
	shed := 0
	for n := range uint64(500) {
		if code, _ := r.ask(t, nth(n), 0); code == http.StatusTooManyRequests {
			shed++
		}
	}
	if asked := r.asked.Load(); asked > 20 || shed == 0 {
		t.Errorf("of 500 questions %d reached the master and %d were shed", asked, shed)
	}
}

// While the master is silent, or says what is not signed, ocspd is told so at once,
// and asking is left off for a second.
func TestLookupProxyAndASilentMaster(t *testing.T) {
	t.Parallel()
	r := newAskRig(t)
	r.silent.Store(true)
	for n := range uint64(5) {
		if code, _ := r.ask(t, nth(n), 0); code != http.StatusServiceUnavailable {
			t.Fatalf("question %d: status %d", n, code)
		}
	}
	if asked := r.asked.Load(); asked > 1 {
		t.Errorf("it was asked %d times within a second", asked)
	}
	r.silent.Store(false)
	if a := r.answered(t, nth(1), 0); a.Issued {
		t.Errorf("it says %+v", a)
	}
	for _, bad := range []string{"/ask", "/ask?issuer=00&serial=01&position=0", "/else", "/ask?issuer=x&serial=80&position=0"} {
		w := httptest.NewRecorder()
		r.proxy.ServeHTTP(w, httptest.NewRequest(http.MethodGet, bad, nil))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d", bad, w.Code)
		}
	}
}
