package pull_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"
	"ocspfleet/sync/pull"
)

// cutter stands between a puller and its database. It cuts the line at one of the
// statements that pass, once: before it reached the database (the call fails and
// nothing was persisted), or after the database has answered (the call fails, and
// yet it was).
type cutter struct {
	to    string // the database's address
	after bool

	mu   sync.Mutex // guards left and cut
	left int        // statements that may pass before the cut; negative: no cut
	cut  bool
}

// passes says whether a statement goes through untouched.
func (c *cutter) passes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut || c.left < 0 {
		return true
	}
	c.left--
	c.cut = c.left < 0
	return !c.cut
}

func (c *cutter) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *cutter) serve(l net.Listener) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		hangUp := sync.OnceFunc(func() { _ = in.Close(); _ = out.Close() })
		var cutting sync.Once
		cutNow := make(chan struct{})
		go func() {
			defer hangUp()
			c.answers(out, in, cutNow)
		}()
		go func() {
			defer hangUp()
			c.statements(in, out, func() { cutting.Do(func() { close(cutNow) }) })
		}()
	}
}

// statements passes on what the puller says, message by message (PostgreSQL's
// protocol 3: one octet of type, four of length). Q and S end a statement.
func (c *cutter) statements(in io.Reader, out io.Writer, cut func()) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(in, head); err != nil { // the first message has no type
		return
	}
	if !forward(in, out, nil, head) {
		return
	}
	for {
		kind := make([]byte, 1)
		if _, err := io.ReadFull(in, kind); err != nil {
			return
		}
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		if (kind[0] == 'Q' || kind[0] == 'S') && !c.passes() {
			if !c.after {
				return
			}
			cut() // the answer is kept back
		}
		if !forward(in, out, kind, head) {
			return
		}
	}
}

func forward(in io.Reader, out io.Writer, kind, head []byte) bool {
	body := make([]byte, max(0, int(binary.BigEndian.Uint32(head))-4))
	if _, err := io.ReadFull(in, body); err != nil {
		return false
	}
	_, err := out.Write(append(append(kind, head...), body...))
	return err == nil
}

// answers passes on what the database says. Once the line is to be cut, it reads
// one answer, so that the statement was done, and hangs up.
func (c *cutter) answers(out io.Reader, in io.Writer, cut <-chan struct{}) {
	b := make([]byte, 64<<10)
	for {
		n, err := out.Read(b)
		select {
		case <-cut:
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := in.Write(b[:n]); err != nil {
			return
		}
	}
}

// The line to the database breaks at each statement in turn, before it was done and
// after: in the end nothing is missing and nothing is there twice.
func TestEachStatementFailsPersistedOrNot(t *testing.T) {
	if testing.Short() {
		t.Skip("fails each statement in turn")
	}
	t.Parallel()
	m := newMaster(t)
	m.issue(t, 0)
	for _, after := range []bool{false, true} {
		s := newSite(t)
		client := serve(t, m.store, m.latest, s.id, nil)
		done := false
		for step := 0; !done; step++ {
			u, err := url.Parse(dbtest.As(s.dsn, "ocsp_sync"))
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			c := &cutter{to: u.Host, after: after, left: step}
			go c.serve(l)
			u.Host = l.Addr().String()
			store, err := sitedb.Open(t.Context(), tables.Config{DSN: u.String()})
			if err != nil {
				if step > 3 || errors.Is(err, t.Context().Err()) {
					t.Fatal(err)
				}
				_ = l.Close() // the cut was while it connected
				continue
			}
			m.issue(t, int(m.position(t))+1000)
			if step%4 == 0 { // a hundred an hour are allowed
				m.revoke(t, int(m.position(t))-1+1000, db.ReasonSuperseded)
			}
			_, stop := s.pulls(t, m, func(cfg *pull.Config) { cfg.Store = store }, client)
			s.equals(t, m)
			stop()
			store.Close()
			_ = l.Close()
			done = step > 5 && !c.done() // all statements of one round have had their turn
			if step > 200 {
				t.Fatal("a round of a puller has no end")
			}
		}
		s.equals(t, m)
		s.dense(t, m)
	}
}
