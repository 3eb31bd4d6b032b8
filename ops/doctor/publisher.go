package doctor

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"ocspfleet/db"
)

// Publisher is ocspsyncd's configuration at the master, and the key set in force.
type Publisher struct {
	Admin string // of ocspsyncd
	Root  bool   // a root is pinned, so there are key sets
	Signs bool   // it signs a feed
	Keys  FeedKeys
	Epoch int64 // of that key set
}

// publisher examines ocspsyncd at the master, and whether it can sign.
func (m Master) publisher(ctx context.Context, f *results, head db.Head) {
	p := m.Publisher
	if p == nil {
		f.warn("ocspsyncd", "give --ocspsyncd-config FILE", "not looked at: %s", m.NoPublisher)
		return
	}
	f.syncd(ctx, p.Admin)
	if !p.Root {
		return
	}
	const fix = "have the feed's root sign the next set (feed keys sign --number %d --epoch %d), then ocspctl feed keys publish FILE --apply: docs/feed-keys.md"
	report := f.warn
	nothing := "no correction is believed"
	if p.Signs {
		report, nothing = f.fail, "nothing is signed, and every copy ages"
	}
	next := fmt.Sprintf(fix, p.Keys.Number+1, head.Epoch)
	switch left := p.Keys.Until.Sub(m.Now()); {
	case p.Keys.Err != nil:
		f.fail("feed keys", "compare feed.root with what the CA's staff says: no stored key set is this root's", "%v", p.Keys.Err)
	case p.Keys.Number == 0:
		report("feed keys", next, "no key set is in force: %s", nothing)
	case p.Epoch != head.Epoch:
		report("feed keys", next, "set %d is for epoch %d, this master is in epoch %d: %s", p.Keys.Number, p.Epoch, head.Epoch, nothing)
	case p.Signs && left <= 0:
		f.fail("feed keys", next, "all keys of set %d have ended, at %s: %s", p.Keys.Number, p.Keys.Until.UTC().Format(time.RFC3339), nothing)
	case p.Signs && left < keysWarning:
		f.warn("feed keys", next, "the last key of set %d ends in %s", p.Keys.Number, span(left))
	default:
		f.ok("feed keys", "set %d is the pinned root's, and for this epoch", p.Keys.Number)
	}
}

// syncd asks ocspsyncd whether it is ready.
func (f *results) syncd(ctx context.Context, admin string) {
	switch code, text, err := get(ctx, admin, "/readyz"); {
	case err != nil:
		f.fail("ocspsyncd", "systemctl start ocspsyncd; its log says why it stopped", "%v", err)
	case code != http.StatusOK:
		f.fail("ocspsyncd", "docs/operations.md says what each reason means", "%s/readyz says %d: %s", admin, code, text)
	default:
		f.ok("ocspsyncd", "%s/readyz says that it is ready", admin)
	}
}

// native says whether the roster has a site with native replication, as far as the master can
// tell: one without a feed key.
func (m Master) native(ctx context.Context) bool {
	roster, err := m.Store.Responders(ctx)
	for _, site := range roster {
		if site.State == db.ResponderActive && site.FeedPin == nil {
			return true
		}
	}
	return err != nil
}
