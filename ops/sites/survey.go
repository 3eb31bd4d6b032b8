package sites

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/errgroup"
)

// Result is the result of a probe of one site for one issuer.
type Result string

// The results. Every one but ok is a fault of an active site.
const (
	ResultOK            Result = "ok"             // a signed, fresh answer that agrees with the master
	ResultUnreachable   Result = "unreachable"    // no HTTP answer
	ResultRefused       Result = "refused"        // an HTTP or OCSP error: honest, but no answer
	ResultWrong         Result = "wrong"          // an answer that clients must not accept, or with another status
	ResultNoCertificate Result = "no_certificate" // no certificate to sign with
	ResultBehind        Result = "behind"         // a true answer of a site that does not follow the master
	ResultForked        Result = "forked"         // it follows, but received two histories
)

// ProbeResult is one site's answer for one issuer.
type ProbeResult struct {
	Issuer     string
	Serial     db.Serial // of the responder certificate that was asked for, the site's newest
	NotAfter   time.Time // its end; zero when there is none
	Result     Result
	Detail     string // for people; empty when ok
	ThisUpdate time.Time
	NextUpdate time.Time
	// Age is the age of the site's horizon: now - (thisUpdate + backdate). Budget is how long the
	// site could still answer good if no news came; below 0 it cannot. Both are 0 without an
	// answer.
	Age    time.Duration
	Budget time.Duration
	Took   time.Duration
	// Position is the last change that the master had committed by the site's horizon: the site
	// has that and all before it. 0 without an answer.
	Position int64
}

// SlotState is what the master knows of a site that replicates from it natively.
type SlotState struct {
	Streaming bool   // a session reads the slot now
	Lost      bool   // the master gave the slot up: the site will be seeded again
	Behind    uint64 // octets of WAL that the site has not confirmed
	Form      int    // while it streams: the newest form of signed notes that it reads; 0: unknown
}

// FeedLink is what the master knows of a site that may fetch the signed feed.
type FeedLink struct {
	Direct   bool      // it asked the master itself within the last minutes
	SeenAt   time.Time // its last request; zero: never
	Position int64     // that the site reported then
	Form     int       // and the newest form of signed notes that it reads; 0: unknown
}

// directFor is how long a request counts: three long polls.
const directFor = 5 * time.Minute

// Mode is how the site's rows come: logical, feed, or empty if the master knows of neither.
func (s Status) Mode() string {
	switch {
	case s.Slot != nil:
		return "logical"
	case s.Feed != nil:
		return "feed"
	}
	return ""
}

// Outdated says that the site cannot read key sets with keys for corrections: until it is upgraded
// the root does not sign the first one. A site without contact does not count as outdated.
func (s Status) Outdated() bool {
	switch {
	case s.Slot != nil && s.Slot.Streaming:
		return s.Slot.Form < formCorrections
	case s.Slot == nil && s.Feed != nil && !s.Feed.SeenAt.IsZero():
		return s.Feed.Form < formCorrections
	}
	return false
}

// formCorrections is the form of the signed notes that has keys for corrections
// (feed.Form).
const formCorrections = 2

// Source is where the rows come from: master, or peers if the master does not see the site; empty
// if none come.
func (s Status) Source() string {
	switch {
	case s.Slot != nil && s.Slot.Streaming || s.Slot == nil && s.Feed != nil && s.Feed.Direct:
		return "master"
	case s.Slot == nil && s.Feed != nil && s.State == db.ResponderActive:
		return "peers"
	}
	return ""
}

// Status is a site on the roster with the results of its probes. A suspended or revoked site is
// not probed.
type Status struct {
	masterdb.Responder
	Results []ProbeResult // by issuer
	Slot    *SlotState    // nil: no slot at the master has its name
	Feed    *FeedLink     // nil: the roster has no pin for it to fetch the feed
	Fork    string        // an unsettled contradiction in the feed that it reported; empty: none
}

// Well says that nothing is wrong with the site, or that it need not answer.
func (s Status) Well() bool {
	return s.Fork == "" && !slices.ContainsFunc(s.Results, func(f ProbeResult) bool { return f.Result != ResultOK })
}

// Surveyor asks every site how it is, as a client would.
type Surveyor struct {
	Client  *http.Client     // nil: its own client, which follows no redirect
	Timeout time.Duration    // of one probe; 0: 10 s, the longest an answer may take (BR section 4.10.2)
	MaxAge  time.Duration    // the greatest age of a site's copy; 0: DefaultMaxAge
	Now     func() time.Time // nil: time.Now
}

// probesAtOnce bounds how many sites are asked at a time.
const probesAtOnce = 16

// Survey reads the roster and asks each active site, for each issuer of which it has a
// certificate, about that certificate and about the issuer's last revocation.
func (v Surveyor) Survey(ctx context.Context, store *masterdb.DB) ([]Status, error) {
	defer v.defaults()()
	known, err := v.Learn(ctx, store)
	if err != nil {
		return nil, err
	}
	sites, err := v.Ask(ctx, known)
	if err != nil {
		return nil, err
	}
	return sites, Locate(ctx, store, known.Issuers, sites)
}

// defaults sets defaults for zero fields; done closes what it opened.
func (v *Surveyor) defaults() (done func()) {
	v.Timeout, v.MaxAge = cmp.Or(v.Timeout, 10*time.Second), cmp.Or(v.MaxAge, DefaultMaxAge)
	if v.Now == nil {
		v.Now = time.Now
	}
	if v.Client != nil {
		return func() {}
	}
	v.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return v.Client.CloseIdleConnections
}

// Ask asks the known sites, whether the master is reachable or not.
func (v Surveyor) Ask(ctx context.Context, known Known) ([]Status, error) {
	defer v.defaults()()
	sites := make([]Status, len(known.Sites))
	var group errgroup.Group
	group.SetLimit(probesAtOnce)
	for i, responder := range known.Sites {
		sites[i] = known.site(responder, v.Now())
		if responder.State != db.ResponderActive {
			continue
		}
		sites[i].Results = v.expect(responder, known.Issuers)
		for n := range sites[i].Results {
			if f := &sites[i].Results[n]; f.Result == "" {
				group.Go(func() error { v.probe(ctx, responder, known, f); return nil })
			}
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	v.compare(known, sites)
	return sites, nil
}

// Locate finds the position of each answer's horizon.
func Locate(ctx context.Context, store *masterdb.DB, issuers []db.Issuer, sites []Status) error {
	for _, site := range sites {
		for n := range site.Results {
			f := &site.Results[n]
			if f.ThisUpdate.IsZero() {
				continue
			}
			at := slices.IndexFunc(issuers, func(i db.Issuer) bool { return i.Name == f.Issuer })
			var err error
			if f.Position, err = store.PositionAt(ctx, f.ThisUpdate.Add(issuers[at].Policy.Backdate)); err != nil {
				return err
			}
		}
	}
	return nil
}

// expect lists the questions to a site: per issuer its newest certificate that is good now.
func (v Surveyor) expect(site masterdb.Responder, issuers []db.Issuer) []ProbeResult {
	var results []ProbeResult
	now := v.Now()
	for _, issuer := range issuers {
		served := false
		f := ProbeResult{Issuer: issuer.Name, Result: ResultNoCertificate, Detail: "all its certificates are expired or revoked"}
		for _, c := range site.Certificates { // the longest-lived last
			if c.IssuerID != issuer.ID {
				continue
			}
			served = true
			if !c.Status.Revoked && c.Status.NotAfter.After(now) {
				f = ProbeResult{Issuer: issuer.Name, Serial: c.Serial, NotAfter: c.Status.NotAfter}
			}
		}
		if served {
			results = append(results, f)
		}
	}
	if len(results) == 0 {
		results = []ProbeResult{{Result: ResultNoCertificate, Detail: "it has no certificate for any issuer"}}
	}
	return results
}

// slotOf returns the site's slot for the rows: the one with a stream, or the newest.
func slotOf(site string, slots []db.Slot) *SlotState {
	var link *SlotState
	for _, slot := range slots {
		number, ours := strings.CutPrefix(slot.Name, db.SlotPrefix(site))
		if !ours || strings.Trim(number, "0123456789") != "" || db.IsFilesSlot(slot.Name) || link != nil && link.Streaming {
			continue
		}
		link = &SlotState{Streaming: slot.Active, Lost: slot.Status == "lost", Behind: uint64(max(0, slot.LagBytes)), Form: slot.Form}
	}
	return link
}

func (v Surveyor) probe(ctx context.Context, site masterdb.Responder, known Known, f *ProbeResult) {
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	issuers := known.Issuers
	at := slices.IndexFunc(issuers, func(i db.Issuer) bool { return i.Name == f.Issuer })
	ca, err := x509.ParseCertificate(issuers[at].Certificate)
	if err != nil {
		f.Result, f.Detail = ResultWrong, fmt.Sprintf("the issuer's certificate at the master: %v", err)
		return
	}
	start := time.Now()
	raw, result, err := v.ask(ctx, site.URL, ca, f.Serial, true)
	f.Took = time.Since(start)
	if err != nil {
		f.Result, f.Detail = result, err.Error()
		return
	}
	now := v.Now()
	answer, result, err := checkAnswer(raw, ca, f.Serial, site, ocsp.Good, now)
	f.Result = result
	if err != nil {
		f.Detail = err.Error()
	}
	if answer != nil {
		policy := issuers[at].Policy
		f.ThisUpdate, f.NextUpdate = answer.ThisUpdate.UTC(), answer.NextUpdate.UTC()
		f.Age = max(0, now.Sub(f.ThisUpdate.Add(policy.Backdate)))
		f.Budget = policy.MaxStaleness - f.Age
		if answer.Certificate != nil {
			f.Budget = min(f.Budget, answer.Certificate.NotAfter.Sub(now)-db.SignerMargin)
		}
	}
	if f.Result == ResultOK && f.Age <= v.MaxAge {
		v.probeRevoked(ctx, site, ca, known.Revoked[issuers[at].ID], f)
	}
}

// probeRevoked asks about a revocation that is old enough for the site to have it.
func (v Surveyor) probeRevoked(ctx context.Context, site masterdb.Responder, ca *x509.Certificate, serial db.Serial, f *ProbeResult) {
	if len(serial) == 0 {
		return
	}
	raw, result, err := v.ask(ctx, site.URL, ca, serial, true)
	if err == nil {
		_, result, err = checkAnswer(raw, ca, serial, site, ocsp.Revoked, v.Now())
	}
	if err != nil {
		f.Result, f.Detail = result, fmt.Sprintf("certificate %s, revoked over %s ago: %v", serial, v.MaxAge, err)
	}
}
