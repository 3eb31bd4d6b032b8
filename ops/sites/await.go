package sites

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/sync/errgroup"
)

// Reply is whether a site gave the expected status.
type Reply struct {
	Site   string
	URL    string
	Says   bool
	Took   time.Duration // from the start of the wait to the answer
	Detail string        // its other answer; empty if it gave the status
}

// The pauses between two questions: 50 ms are short compared with the second within which a
// revocation should be seen; half a second avoids load on a site that lags.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// Await asks every active site that has a certificate of the issuer for the serial until each
// gives the status (ocsp.Revoked or ocsp.Good) in a valid answer, or ctx ends. A request is one as
// any client sends, without nonce.
func (v Surveyor) Await(ctx context.Context, store *masterdb.DB, issuer db.Issuer, serial db.Serial, status int) ([]Reply, error) {
	defer v.defaults()()
	ca, err := x509.ParseCertificate(issuer.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of issuer %q: %w", issuer.Name, err)
	}
	began := time.Now()
	roster, err := store.Responders(ctx)
	if err != nil {
		return nil, err
	}
	roster = slices.DeleteFunc(roster, func(r masterdb.Responder) bool {
		return r.State != db.ResponderActive ||
			!slices.ContainsFunc(r.Certificates, func(c masterdb.RosterCertificate) bool { return c.IssuerID == issuer.ID })
	})
	replies := make([]Reply, len(roster))
	var group errgroup.Group
	group.SetLimit(probesAtOnce)
	for i, site := range roster {
		group.Go(func() error {
			replies[i] = v.awaitSite(ctx, site, ca, serial, status)
			replies[i].Took = time.Since(began)
			return nil
		})
	}
	return replies, group.Wait()
}

func (v Surveyor) awaitSite(ctx context.Context, site masterdb.Responder, ca *x509.Certificate, serial db.Serial, status int) Reply {
	reply := Reply{Site: site.Name, URL: site.URL, Detail: "it was not asked in time"}
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, maxPause) {
		err := v.says(ctx, site, ca, serial, status)
		if err == nil {
			reply.Says, reply.Detail = true, ""
			return reply
		}
		if ctx.Err() == nil || reply.Detail == "it was not asked in time" {
			reply.Detail = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return reply
}

func (v Surveyor) says(ctx context.Context, site masterdb.Responder, ca *x509.Certificate, serial db.Serial, status int) error {
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	raw, _, err := v.ask(ctx, site.URL, ca, serial, false)
	if err != nil {
		return err
	}
	_, _, err = checkAnswer(raw, ca, serial, site, status, v.Now())
	return err
}
