package sites

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"

	"golang.org/x/sync/errgroup"
)

// byAddress returns a client that uses this address for each host: it asks the site where clients
// will be sent, whatever the DNS says now.
func byAddress(address netip.Addr) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, hostPort string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(hostPort)
				if err != nil {
					return nil, err
				}
				return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(address.String(), port))
			},
		},
	}
}

// AnswersAt asks a site, at one of its addresses, for its own certificate of each issuer, as
// Survey does. A nil error means that each answer is one that clients must accept.
func (v Surveyor) AnswersAt(ctx context.Context, site masterdb.Responder, issuers []db.Issuer, address netip.Addr) error {
	v.Client = byAddress(address)
	defer v.Client.CloseIdleConnections()
	v.defaults()
	for _, f := range v.expect(site, issuers) {
		if f.Result == "" {
			v.probe(ctx, site, Known{Issuers: issuers}, &f)
		}
		if f.Result != ResultOK {
			return fmt.Errorf("site %s at %s for issuer %s: %s: %s", site.Name, address, f.Issuer, f.Result, f.Detail)
		}
	}
	return nil
}

// answering waits until the site answers by its addresses, and returns those that answer, and the
// faults of the others.
func (m *move) answering(ctx context.Context) (well []netip.Addr, faults []error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(m.DNS.AnswerPatience, time.Minute))
	defer cancel()
	issuers, err := m.Store.Issuers(ctx)
	if err != nil {
		return nil, []error{err}
	}
	found := make([]error, len(m.own))
	var group errgroup.Group
	for i, address := range m.own {
		group.Go(func() error {
			found[i] = m.awaitAnswer(ctx, issuers, address)
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
	for i, err := range found {
		if err != nil {
			faults = append(faults, fmt.Errorf("%w, so it is not published (--force does it nevertheless)", err))
			continue
		}
		well = append(well, m.own[i])
	}
	return well, faults
}

func (m *move) awaitAnswer(ctx context.Context, issuers []db.Issuer, address netip.Addr) error {
	v := Surveyor{Now: m.DNS.Now}
	var last error
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		err := v.AnswersAt(ctx, m.site, issuers, address)
		if err == nil {
			m.DNS.tell("%s answers at %s", m.Site, address)
			return nil
		}
		if last == nil {
			m.DNS.tell("waiting: %v", err)
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
		}
	}
}
